package processor

import (
	"os"
	"runtime/debug"
)

// SetMemory tells the runtime how much memory a process with a processor of this
// configuration may take before it collects garbage: up to four times what is in use, as
// long as it is below three times the cache of states and the rest of what a processor
// needs. Most of its heap are States that live long, and to look at all of them each time
// that the heap has doubled, the runtime's default, takes a fifth of the processor's time.
//
// It is for the main of a process: it counts for all of it. GOGC and GOMEMLIMIT, where
// they are set, count instead.
func (c Config) SetMemory() {
	c.ensureDefaults()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(3*c.CacheBytes + restBytes)
	}
}

const (
	garbagePercent = 300
	// restBytes are the local store's cache and memtables, batches and buffers.
	restBytes = 384 << 20
)
