package broker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A segment file holds record batches of Kafka's format 2, one after another.
const (
	batchHeaderBytes = 61
	maxBatchBytes    = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batchHeader is what recovery needs of a record batch.
type batchHeader struct {
	firstOffset, lastOffset      int64
	size                         int // bytes in the file
	epoch                        int32
	transactional, control       bool
	firstTimestamp, maxTimestamp int64
	producerID                   int64
	producerEpoch                int16
	firstSequence, records       int32
}

func parseBatchHeader(b []byte) batchHeader {
	be := binary.BigEndian
	attributes := be.Uint16(b[21:])
	first := int64(be.Uint64(b))
	return batchHeader{
		firstOffset:    first,
		size:           12 + int(be.Uint32(b[8:])),
		epoch:          int32(be.Uint32(b[12:])),
		transactional:  attributes&0x10 != 0,
		control:        attributes&0x20 != 0,
		lastOffset:     first + int64(int32(be.Uint32(b[23:]))),
		firstTimestamp: int64(be.Uint64(b[27:])),
		maxTimestamp:   int64(be.Uint64(b[35:])),
		producerID:     int64(be.Uint64(b[43:])),
		producerEpoch:  int16(be.Uint16(b[51:])),
		firstSequence:  int32(be.Uint32(b[53:])),
		records:        int32(be.Uint32(b[57:])),
	}
}

// errBatch is why the bytes at some place of a segment are no record batch.
var errBatch = errors.New("no whole record batch")

// readBatch reads the next batch into buf and checks its CRC. io.EOF: the
// segment ends here.
func readBatch(r io.Reader, buf []byte) (batchHeader, []byte, error) {
	buf = grow(buf, batchHeaderBytes)
	if _, err := io.ReadFull(r, buf); err != nil {
		return batchHeader{}, buf, shortRead(err)
	}
	h := parseBatchHeader(buf)
	if h.size < batchHeaderBytes || h.size > maxBatchBytes || buf[16] != 2 || h.lastOffset < h.firstOffset {
		return h, buf, fmt.Errorf("%w: its header makes no sense", errBatch)
	}
	buf = grow(buf, h.size)
	if _, err := io.ReadFull(r, buf[batchHeaderBytes:]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return h, buf, shortRead(err)
	}
	if crc32.Checksum(buf[21:], castagnoli) != binary.BigEndian.Uint32(buf[17:]) {
		return h, buf, fmt.Errorf("%w: its checksum is wrong", errBatch)
	}
	return h, buf, nil
}

func shortRead(err error) error {
	if err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it is cut short", errBatch)
	}
	return err
}

func grow(buf []byte, n int) []byte {
	if cap(buf) >= n {
		return buf[:n]
	}
	next := make([]byte, n)
	copy(next, buf)
	return next
}

// segmentEnd is how a segment ends.
type segmentEnd struct {
	valid int64 // bytes of whole batches
	size  int64 // bytes of the file
	fault error // why the rest is no batch; nil: there is no rest
}

// scanSegment calls fn with each batch of the file until it ends or is damaged.
// An error is one of reading, or fn's.
func scanSegment(path string, fn func(batchHeader) error) (segmentEnd, error) {
	f, err := os.Open(path)
	if err != nil {
		return segmentEnd{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return segmentEnd{}, err
	}
	end := segmentEnd{size: info.Size()}
	r := bufio.NewReaderSize(f, 1<<20)
	var buf []byte
	for {
		var h batchHeader
		h, buf, err = readBatch(r, buf)
		switch {
		case err == io.EOF:
			return end, nil
		case errors.Is(err, errBatch):
			end.fault = err
			return end, nil
		case err != nil:
			return end, err
		}
		if err := fn(h); err != nil {
			return end, err
		}
		end.valid += int64(h.size)
	}
}

// batchAfter looks for a whole batch of a later offset behind from. One found
// means that the bytes before it were damaged, not that the last write was cut.
func batchAfter(path string, from, offset int64) (int64, bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, false, err
	}
	rest, err := io.ReadAll(f)
	if err != nil {
		return 0, false, err
	}
	for i := 1; i+batchHeaderBytes <= len(rest); i++ {
		if rest[i+16] != 2 {
			continue
		}
		h := parseBatchHeader(rest[i:])
		if h.firstOffset < offset || h.size < batchHeaderBytes || h.size > len(rest)-i {
			continue
		}
		if crc32.Checksum(rest[i+21:i+h.size], castagnoli) == binary.BigEndian.Uint32(rest[i+17:]) {
			return from + int64(i), true, nil
		}
	}
	return 0, false, nil
}
