// Package layout holds the tests that keep the house in order: which package
// may import which, which room a library lives in, and how long a file may get.
package layout
