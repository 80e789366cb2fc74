// Package audit answers questions from the history.
//
// It reads only, and only rows of one tenant and subject. A page is what the
// tables held when it was read: rows that are written later with an earlier
// broker time can fall before a cursor that was given out already.
package audit
