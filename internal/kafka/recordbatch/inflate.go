package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// MaxInflatedBytes bounds what one compressed batch may inflate to. Brokers take
// batches of about 1 MB by default; a ratio above a hundred is a bomb.
const MaxInflatedBytes = 128 << 20

// Compression codecs, the low three attribute bits.
const (
	codecNone = iota
	codecGzip
	codecSnappy
	codecLZ4
	codecZstd
)

var errTooLarge = fmt.Errorf("inflates to more than %d bytes", MaxInflatedBytes)

// xerialMagic opens the framing that Java's snappy library puts around its blocks.
var xerialMagic = []byte("\x82SNAPPY\x00")

// inflater undoes the compression of batches into an arena. What it returned stays
// valid until reset, also when the arena moves.
type inflater struct {
	arena   []byte
	scratch []byte
	gzip    *gzip.Reader
	lz4     *lz4.Reader
	zstd    *zstd.Decoder
}

func (f *inflater) reset() { f.arena = f.arena[:0] }

func (f *inflater) inflate(codec int, src []byte) ([]byte, error) {
	start := len(f.arena)
	var err error
	switch codec {
	case codecNone:
		return src, nil
	case codecGzip:
		err = f.inflateGzip(src)
	case codecSnappy:
		err = f.inflateSnappy(src)
	case codecLZ4:
		err = f.inflateLZ4(src)
	case codecZstd:
		err = f.inflateZstd(src)
	default:
		err = fmt.Errorf("unknown compression codec %d", codec)
	}
	if err != nil {
		f.arena = f.arena[:start]
		return nil, err
	}
	return f.arena[start:len(f.arena):len(f.arena)], nil
}

func (f *inflater) inflateGzip(src []byte) error {
	if f.gzip == nil {
		f.gzip = new(gzip.Reader)
	}
	if err := f.gzip.Reset(bytes.NewReader(src)); err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	if err := f.readAll(f.gzip); err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	return nil
}

func (f *inflater) inflateLZ4(src []byte) error {
	if f.lz4 == nil {
		f.lz4 = lz4.NewReader(nil)
	}
	f.lz4.Reset(bytes.NewReader(src))
	if err := f.readAll(f.lz4); err != nil {
		return fmt.Errorf("lz4: %w", err)
	}
	return nil
}

func (f *inflater) inflateZstd(src []byte) error {
	if f.zstd == nil {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxInflatedBytes))
		if err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
		f.zstd = d
	}
	// Not into the arena: the decoder counts what is there already against its bound.
	out, err := f.zstd.DecodeAll(src, f.scratch[:0])
	if err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	f.scratch = out
	f.grow(len(out))
	f.arena = append(f.arena, out...)
	return nil
}

func (f *inflater) inflateSnappy(src []byte) error {
	if !bytes.HasPrefix(src, xerialMagic) {
		return f.appendSnappy(src)
	}
	const headerBytes = 16 // magic, version, oldest compatible version
	if len(src) < headerBytes {
		return errors.New("snappy: header is cut off")
	}
	start := len(f.arena)
	for src = src[headerBytes:]; len(src) > 0; {
		if len(src) < 4 {
			return errors.New("snappy: block is cut off")
		}
		n := binary.BigEndian.Uint32(src)
		src = src[4:]
		if uint64(n) > uint64(len(src)) {
			return errors.New("snappy: block is cut off")
		}
		if err := f.appendSnappy(src[:n]); err != nil {
			return err
		}
		if len(f.arena)-start > MaxInflatedBytes {
			return errTooLarge
		}
		src = src[n:]
	}
	return nil
}

func (f *inflater) appendSnappy(block []byte) error {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return fmt.Errorf("snappy: %w", err)
	}
	// A declared length is believed only as far as snappy's densest copy (64 bytes
	// from 3) could reach, so that four bytes cannot ask for 128 MiB.
	if n > MaxInflatedBytes || n > 64*len(block) {
		return errTooLarge
	}
	f.grow(n)
	out, err := s2.Decode(f.arena[len(f.arena):len(f.arena)+n], block)
	if err != nil {
		return fmt.Errorf("snappy: %w", err)
	}
	f.arena = f.arena[:len(f.arena)+len(out)]
	return nil
}

// readAll appends all of r to the arena, up to the bound.
func (f *inflater) readAll(r io.Reader) error {
	start := len(f.arena)
	for {
		f.grow(4 << 10)
		n, err := r.Read(f.arena[len(f.arena):cap(f.arena)])
		f.arena = f.arena[:len(f.arena)+n]
		if len(f.arena)-start > MaxInflatedBytes {
			return errTooLarge
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// grow makes room for n more bytes. Memory that was handed out is never moved: a
// larger arena is a new one, and the old one lives as long as its slices do.
func (f *inflater) grow(n int) {
	if cap(f.arena)-len(f.arena) >= n {
		return
	}
	bigger := make([]byte, len(f.arena), max(2*cap(f.arena), len(f.arena)+n, 64<<10))
	copy(bigger, f.arena)
	f.arena = bigger
}
