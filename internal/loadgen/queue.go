package loadgen

// queue gives things back when they are due: a binary heap by turn, and in the
// order in which they came where the turn is the same.
type queue[T any] struct {
	heap []queued[T]
	came int64
}

type queued[T any] struct {
	turn, came int64
	what       T
}

func (x *queued[T]) before(y *queued[T]) bool {
	return x.turn < y.turn || (x.turn == y.turn && x.came < y.came)
}

func (q *queue[T]) len() int { return len(q.heap) }

func (q *queue[T]) push(what T, turn int64) {
	q.came++
	q.heap = append(q.heap, queued[T]{turn, q.came, what})
	for i := len(q.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.heap[i].before(&q.heap[up]) {
			return
		}
		q.heap[i], q.heap[up] = q.heap[up], q.heap[i]
		i = up
	}
}

// pop takes the first that is due at turn.
func (q *queue[T]) pop(turn int64) (what T, due bool) {
	if len(q.heap) == 0 || q.heap[0].turn > turn {
		return what, false
	}
	what = q.heap[0].what
	last := len(q.heap) - 1
	q.heap[0] = q.heap[last]
	q.heap[last] = queued[T]{} // let go of what it holds
	q.heap = q.heap[:last]
	for i := 0; ; {
		next := i
		for down := 2*i + 1; down <= 2*i+2 && down < last; down++ {
			if q.heap[down].before(&q.heap[next]) {
				next = down
			}
		}
		if next == i {
			return what, true
		}
		q.heap[i], q.heap[next] = q.heap[next], q.heap[i]
		i = next
	}
}

// ring keeps the newest things.
type ring[T any] struct {
	kept []T
	next int
	size int
}

func newRing[T any](size int) ring[T] { return ring[T]{size: size} }

func (r *ring[T]) put(x T) {
	if len(r.kept) < r.size {
		r.kept = append(r.kept, x)
		return
	}
	r.kept[r.next] = x
	r.next = (r.next + 1) % r.size
}
