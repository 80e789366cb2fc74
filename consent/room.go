package consent

// rowRoom is memory for rows whose life ends with a reset.
type rowRoom struct {
	chunks [][]Row
	at     int // the chunk that rows come from
	used   int // of it
}

// roomChunk is how many rows are allocated at once, keptChunks of how many the memory is
// kept for the next batch: one subject with many purposes and many events takes far more.
const (
	roomChunk  = 1024
	keptChunks = 64
)

// rows gives an empty slice with room for n rows. A nil room gives memory that lasts.
func (r *rowRoom) rows(n int) []Row {
	if r == nil || n > roomChunk {
		return make([]Row, 0, n)
	}
	if r.at < len(r.chunks) && r.used+n > roomChunk {
		r.at, r.used = r.at+1, 0
	}
	if r.at == len(r.chunks) {
		r.chunks = append(r.chunks, make([]Row, roomChunk))
	}
	from := r.used
	r.used += n
	return r.chunks[r.at][from:from:r.used]
}

// reset takes all back.
func (r *rowRoom) reset() {
	if len(r.chunks) > keptChunks {
		clear(r.chunks[keptChunks:])
		r.chunks = r.chunks[:keptChunks]
	}
	for i := 0; i <= r.at && i < len(r.chunks); i++ {
		clear(r.chunks[i])
	}
	r.at, r.used = 0, 0
}
