// Package daemon runs long-lived parts in layers, and tells whether they work.
//
// # Stop order
//
// [Run] starts layer after layer, the lowest first, and stops them the other
// way round: the top layer's context ends, its services finish and return, then
// the next one's. So the HTTP listener closes before the roles behind it, the
// roles before the engines that they use. A service that fails stops everything
// in the same order.
//
// Each layer gets a share of the grace period. One that does not return in time
// is named in the error and left behind; the process is about to end.
//
// # Goroutines
//
// One per service, owned by Run, which returns when all have returned or were
// given up. [Serve] owns one that closes its server when the context ends.
package daemon
