// Package config fills settings structs from flags and environment variables,
// and reports every fault at once.
//
// A setting is a struct field with these tags:
//
//	env:"HTTP_ADDR"      the variable is ASSENT_HTTP_ADDR, the flag --http-addr
//	default:"…"          its default, as text
//	help:"…"             one line; units named
//	flag:"-"             environment only (secrets do not belong on a command line)
//
// Structs nest as named fields. A struct may have a method Validate() []Fault for
// what one field alone cannot tell. Flags win over the environment. Parsing is
// go-envconfig's, field by field, so that one fault does not hide the next.
//
// The package reads neither flags nor the environment itself: both are passed
// in, so that a test is a map.
package config
