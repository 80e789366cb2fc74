package processor

// slabChunk is how many values a slab allocates at once.
const slabChunk = 256

// slab gives out values whose life ends with a batch, and uses them again.
type slab[T any] struct {
	chunks [][]T
	used   int
}

// next gives a zero value, until the next reset.
func (s *slab[T]) next() *T {
	chunk, at := s.used/slabChunk, s.used%slabChunk
	if chunk == len(s.chunks) {
		s.chunks = append(s.chunks, make([]T, slabChunk))
	}
	s.used++
	return &s.chunks[chunk][at]
}

// reset takes all back.
func (s *slab[T]) reset() {
	for i := 0; i*slabChunk < s.used; i++ {
		clear(s.chunks[i])
	}
	s.used = 0
}
