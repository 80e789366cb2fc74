package registry

import "sync/atomic"

// Store holds the registry in force, which a reload replaces. Its methods may be
// called from any goroutine.
type Store struct{ current atomic.Pointer[Registry] }

// NewStore begins with r, which must not be nil.
func NewStore(r *Registry) *Store {
	s := &Store{}
	s.Replace(r)
	return s
}

// Current gives the registry in force. Whoever needs answers that agree with
// each other calls it once and asks what it gave.
func (s *Store) Current() *Registry { return s.current.Load() }

// Replace puts r in force, which must not be nil. Who holds the one before it
// goes on with that.
func (s *Store) Replace(r *Registry) { s.current.Store(r) }
