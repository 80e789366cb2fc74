package chfront

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"
)

// revision is the protocol that the server speaks: the newest one without chunked packets.
const revision = 54460

// Bounds on what a client may send before and in a query.
const (
	maxNameBytes  = 1 << 10
	maxQueryBytes = 16 << 20
	maxSettings   = 1000
)

var errProtocol = errors.New("client breaks the native protocol")

// wireReader reads packets. Every length is checked before memory is taken for it.
type wireReader struct {
	raw        *bufio.Reader
	compressed *compress.Reader
}

func newWireReader(r io.Reader) *wireReader {
	raw := bufio.NewReaderSize(r, 256<<10)
	return &wireReader{raw: raw, compressed: compress.NewReader(raw)}
}

func (r *wireReader) uvarint() (uint64, error) { return binary.ReadUvarint(r.raw) }

func (r *wireReader) text(limit int) (string, error) {
	n, err := r.uvarint()
	if err != nil {
		return "", err
	}
	if n > uint64(limit) {
		return "", fmt.Errorf("%w: a text of %d bytes where %d are allowed", errProtocol, n, limit)
	}
	buf := make([]byte, n)
	if _, err := io.ReadFull(r.raw, buf); err != nil {
		return "", err
	}
	return string(buf), nil
}

func (r *wireReader) discard(n int) error {
	_, err := r.raw.Discard(n)
	return err
}

// skipFields reads over what a packet holds but this server has no use for: "t" a text, "v" a uvarint,
// "1" and "8" that many bytes.
func (r *wireReader) skipFields(fields string) error {
	for _, field := range fields {
		var err error
		switch field {
		case 't':
			_, err = r.text(maxNameBytes)
		case 'v':
			_, err = r.uvarint()
		default:
			err = r.discard(int(field - '0'))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type clientHello struct {
	revision                 uint64
	database, user, password string
}

func (r *wireReader) hello() (clientHello, error) {
	var h clientHello
	code, err := r.uvarint()
	if err != nil {
		return h, err
	}
	if code != uint64(proto.ClientCodeHello) {
		return h, fmt.Errorf("%w: the first packet is %d, not a hello", errProtocol, code)
	}
	if err := r.skipFields("tvv"); err != nil { // client name, major, minor
		return h, err
	}
	if h.revision, err = r.uvarint(); err != nil {
		return h, err
	}
	for _, target := range []*string{&h.database, &h.user, &h.password} {
		if *target, err = r.text(maxNameBytes); err != nil {
			return h, err
		}
	}
	return h, nil
}

type clientQuery struct {
	text       string
	settings   []setting
	params     []setting // values in the form of a quoted literal
	compressed bool
}

type setting struct{ name, value string }

func (r *wireReader) query() (*clientQuery, error) {
	if err := r.skipFields("t"); err != nil { // query id: the engine makes its own
		return nil, err
	}
	if err := r.skipClientInfo(); err != nil {
		return nil, err
	}
	var q clientQuery
	var err error
	if q.settings, err = r.settings(); err != nil {
		return nil, err
	}
	if err := r.skipFields("tv"); err != nil { // interserver secret, stage
		return nil, err
	}
	compression, err := r.uvarint()
	if err != nil {
		return nil, err
	}
	q.compressed = compression != 0
	if q.text, err = r.text(maxQueryBytes); err != nil {
		return nil, err
	}
	q.params, err = r.settings()
	return &q, err
}

func (r *wireReader) skipClientInfo() error {
	kind, err := r.raw.ReadByte()
	if err != nil || kind == 0 {
		return err
	}
	if err := r.skipFields("ttt8"); err != nil { // initial user, query id, address, start time
		return err
	}
	transport, err := r.raw.ReadByte()
	if err != nil {
		return err
	}
	if transport != byte(proto.InterfaceTCP) {
		return fmt.Errorf("%w: client interface %d", errProtocol, transport)
	}
	// OS user, host, client name, three version numbers, quota key, distributed depth, patch.
	if err := r.skipFields("tttvvvtvv"); err != nil {
		return err
	}
	traced, err := r.raw.ReadByte()
	if err != nil {
		return err
	}
	if traced != 0 {
		if err := r.skipFields("888t1"); err != nil { // trace id, span id, state, flags
			return err
		}
	}
	return r.skipFields("vvv") // parallel replicas
}

// settings reads name, flags and value up to an empty name.
func (r *wireReader) settings() ([]setting, error) {
	var list []setting
	for {
		name, err := r.text(maxNameBytes)
		if err != nil || name == "" {
			return list, err
		}
		if len(list) == maxSettings {
			return nil, fmt.Errorf("%w: more than %d settings", errProtocol, maxSettings)
		}
		if err := r.skipFields("v"); err != nil {
			return nil, err
		}
		value, err := r.text(maxQueryBytes)
		if err != nil {
			return nil, err
		}
		list = append(list, setting{name, value})
	}
}

// data returns where the block of a data packet is read from.
func (r *wireReader) data(compressed bool) io.Reader {
	if compressed {
		return r.compressed
	}
	return r.raw
}

// wireWriter writes packets. Nothing is sent before flush.
type wireWriter struct {
	w          *bufio.Writer
	compressor *compress.Writer
	buf        proto.Buffer
}

func newWireWriter(w io.Writer) *wireWriter {
	return &wireWriter{w: bufio.NewWriterSize(w, 256<<10), compressor: compress.NewWriter(compress.LevelZero, compress.LZ4)}
}

func (w *wireWriter) flush() error { return w.w.Flush() }

// packet writes what fill puts into the buffer.
func (w *wireWriter) packet(fill func(b *proto.Buffer)) error {
	w.buf.Reset()
	fill(&w.buf)
	_, err := w.w.Write(w.buf.Buf)
	return err
}

func (w *wireWriter) code(code proto.ServerCode) error {
	return w.packet(func(b *proto.Buffer) { code.Encode(b) })
}

// compressFrameBytes is how much of a block goes into one compressed frame, as a ClickHouse server does it.
const compressFrameBytes = 1 << 20

// block writes a data packet; block is in the clients' dialect.
func (w *wireWriter) block(block []byte, compressed bool) error {
	err := w.packet(func(b *proto.Buffer) {
		proto.ServerCodeData.Encode(b)
		b.PutString("") // no temporary table
	})
	if err != nil {
		return err
	}
	if !compressed {
		_, err = w.w.Write(block)
		return err
	}
	for len(block) > 0 {
		n := min(len(block), compressFrameBytes)
		if err := w.compressor.Compress(block[:n]); err != nil {
			return fmt.Errorf("compress block: %w", err)
		}
		if _, err := w.w.Write(w.compressor.Data); err != nil {
			return err
		}
		block = block[n:]
	}
	return nil
}

func (w *wireWriter) progress(p proto.Progress) error {
	return w.packet(func(b *proto.Buffer) {
		proto.ServerCodeProgress.Encode(b)
		p.EncodeAware(b, revision)
	})
}

func (w *wireWriter) exception(code int, message string) error {
	return w.packet(func(b *proto.Buffer) {
		proto.ServerCodeException.Encode(b)
		e := proto.Exception{Code: proto.Error(code), Name: "DB::Exception", Message: "DB::Exception: " + message}
		e.EncodeAware(b, revision)
	})
}
