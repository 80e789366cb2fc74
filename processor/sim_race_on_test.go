//go:build race

package processor

// raced: with the race detector a history takes five times as long.
const raced = true
