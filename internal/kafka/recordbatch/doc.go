// Package recordbatch encodes and decodes Kafka's record batch, format v2: the
// bytes inside Produce requests, Fetch answers and log segments.
//
// It is the one place that knows the format. No I/O, no clock, no goroutine.
//
//	offset 0   int64  base offset          } not covered by the checksum:
//	       8   int32  bytes that follow    } the broker rewrites them
//	      12   int32  leader epoch         }
//	      16   int8   format, always 2
//	      17   uint32 CRC-32C of all that follows
//	      21   int16  attributes: compression 0-2, log append time 3, transactional 4, control 5
//	      23   int32  last offset delta
//	      27   int64  first time, ms       43  int64 producer id
//	      35   int64  largest time, ms     51  int16 producer epoch
//	                                       53  int32 first sequence
//	      57   int32  number of records
//	      61   records, compressed as a whole
//
// [Writer] builds one batch for an idempotent or transactional [Sender].
// [Next] cuts the next batch off a Fetch answer and checks its CRC; a [Decoder]
// then walks over its records. Keys, values and header values of uncompressed
// batches are slices of the input; of compressed ones, of the decoder's arena.
// Neither is copied.
//
// Every count and length is checked against the bytes that are left before it is
// believed, and a batch never inflates past [MaxInflatedBytes].
//
// Source: https://kafka.apache.org/documentation/#recordbatch
package recordbatch
