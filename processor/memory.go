package processor

// Memory gives what a process with a processor of this configuration should tell the
// runtime (package runtime/debug, SetGCPercent and SetMemoryLimit): garbage may stand
// until there is three times as much as what is in use, below three times the cache of
// states and the rest of what a processor needs. Most of its heap are States that live
// long, and to look at all of them each time that the heap has doubled, the runtime's
// default, takes a fifth of the processor's time.
func (c Config) Memory() (garbagePercent int, limitBytes int64) {
	c.ensureDefaults()
	const rest = 384 << 20 // the local store's cache and memtables, batches and buffers
	return 300, 3*c.CacheBytes + rest
}
