package store

import (
	"encoding/binary"
	"fmt"
)

// Mark is what a store covers. The zero Mark stands for an empty store.
//
// As bytes, big endian:
//
//	+---------+-------+-----------+-------+----------+-------+----+
//	| version | Topic | Changelog | Input | Producer | Epoch | At |
//	| 1       | 16    | 8         | 8     | 8        | 2     | 8  |
//	+---------+-------+-----------+-------+----------+-------+----+
type Mark struct {
	// Topic is the id of consent.state: a topic that was made anew has another one.
	Topic [16]byte
	// Changelog is the next offset of consent.state: the store has what is below.
	Changelog int64
	// Input is the next offset of consent.events: what is below is folded in.
	Input int64
	// Producer and Epoch name the transactional producer whose batch was the last.
	Producer int64
	Epoch    int16
	// At is when it was written, unix ms, by the clock of the one who wrote it.
	At int64
}

const (
	markVersion = 1
	markBytes   = 1 + 16 + 8 + 8 + 8 + 2 + 8
)

func (m *Mark) appendTo(dst []byte) []byte {
	dst = append(dst, markVersion)
	dst = append(dst, m.Topic[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Changelog))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Input))
	dst = binary.BigEndian.AppendUint64(dst, uint64(m.Producer))
	dst = binary.BigEndian.AppendUint16(dst, uint16(m.Epoch))
	return binary.BigEndian.AppendUint64(dst, uint64(m.At))
}

func decodeMark(b []byte) (Mark, error) {
	if len(b) != markBytes || b[0] != markVersion {
		version := -1
		if len(b) > 0 {
			version = int(b[0])
		}
		return Mark{}, fmt.Errorf("a mark of %d bytes and version %d, not %d and %d", len(b), version, markBytes, markVersion)
	}
	var m Mark
	copy(m.Topic[:], b[1:])
	b = b[17:]
	m.Changelog = int64(binary.BigEndian.Uint64(b))
	m.Input = int64(binary.BigEndian.Uint64(b[8:]))
	m.Producer = int64(binary.BigEndian.Uint64(b[16:]))
	m.Epoch = int16(binary.BigEndian.Uint16(b[24:]))
	m.At = int64(binary.BigEndian.Uint64(b[26:]))
	return m, nil
}
