// Package strictyaml reads YAML files that people write and that must mean what
// they say: every fault is noted with file, line and column, and reading goes
// on after it, so that one run tells everything that is wrong.
//
// The reading code asks a [Mapping] for keys and a [Value] for what it should
// be; what it asked for is the whole grammar, and whatever else the file holds
// is noted as unknown. The package knows nothing of consent.
//
// One document a file, UTF-8, up to [MaxFileBytes]. Anchors, aliases, merge keys
// and tags are refused: a file that is reviewed says what it says where it says
// it. A number where text is wanted is taken as written: version: 3.10 is
// "3.10".
//
// Size and nesting are bounded before the YAML parser sees a byte, and a panic
// of the parser is a fault of the file. Nothing here does I/O.
package strictyaml
