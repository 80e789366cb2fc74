//go:build race

package model

// raced: the race detector makes the exploration, which is one goroutine, many times
// slower; the largest of the small configurations are left out then.
const raced = true
