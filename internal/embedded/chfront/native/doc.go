// Package native translates blocks of ClickHouse's Native format between its two dialects.
//
// The engine reads and writes Native at revision 0, clients of the TCP protocol speak revision 54460:
//
//	                 +------------+---------+------+----------------------------------------------+
//	client, server:  | block info | columns | rows | name, type, serialization (1 byte, 0), values | ...
//	                 +------------+---------+------+----------------------------------------------+
//	engine:                       | columns | rows | name, type,                           values  | ...
//	                              +---------+------+----------------------------------------------+
//
// The values are the same bytes in both, and there are none where there are no rows. So nothing is decoded: a
// cursor walks over the values, led by the parsed type name, to find where each column ends.
//
// The package has no I/O of its own, no clock and no goroutine. What comes from a client is bounded before
// memory is taken for it; nothing here panics on bad bytes.
package native
