package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Every cluster has a system identifier, by which a replica knows its primary.
// Copies of one template would all share it, so a copy is given its own: the
// identifier is the first field of pg_control, which a checksum protects, and
// stands in the long header of each WAL segment's first page, which none does.

// errUnknownLayout: a data directory does not look as described above, so its
// identifier is better left alone.
var errUnknownLayout = errors.New("unknown layout of pg_control or WAL")

const (
	controlFile     = "global/pg_control"
	walSystemID     = 24 // offset in a segment's first page
	walLongHeader   = 40
	controlMinBytes = 64
	controlMaxBytes = 512 // the server keeps pg_control within one disk sector
)

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	segmentName = regexp.MustCompile(`^[0-9A-F]{24}$`)
)

// newSystemID makes an identifier the way initdb does: seconds in the upper
// half, so that it tells when the cluster was made, and noise below.
func newSystemID() uint64 {
	return uint64(time.Now().Unix())<<32 | uint64(rand.Uint32())
}

// controlChecksum finds where pg_control ends in its own checksum. The offset
// differs between major versions; a chance match is 1 in 2^32 per offset.
func controlChecksum(data []byte) (offset int, ok bool) {
	for offset = controlMinBytes; offset+4 <= min(len(data), controlMaxBytes); offset += 4 {
		if crc32.Checksum(data[:offset], castagnoli) == binary.NativeEndian.Uint32(data[offset:]) {
			return offset, true
		}
	}
	return 0, false
}

// readControl returns pg_control once it is whole: a running server may be
// writing it.
func readControl(dataDir string) (data []byte, checksum int, err error) {
	for range 10 {
		if data, err = os.ReadFile(filepath.Join(dataDir, controlFile)); err != nil {
			return nil, 0, err
		}
		if checksum, ok := controlChecksum(data); ok {
			return data, checksum, nil
		}
	}
	return nil, 0, fmt.Errorf("read %s: %w", filepath.Join(dataDir, controlFile), errUnknownLayout)
}

// setSystemID gives a data directory that no server runs in a new identifier.
// It changes nothing unless every place holds the old one.
func setSystemID(dataDir string, id uint64) error {
	control, checksum, err := readControl(dataDir)
	if err != nil {
		return err
	}
	segments, err := walSegments(dataDir)
	if err != nil {
		return err
	}
	old := bytes.Clone(control[:8])
	for _, path := range segments {
		if err := withSystemID(path, os.O_RDONLY, func(_ *os.File, found []byte) error {
			if !bytes.Equal(found, old) {
				return fmt.Errorf("%s: %w", path, errUnknownLayout)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	binary.NativeEndian.PutUint64(control, id)
	binary.NativeEndian.PutUint32(control[checksum:], crc32.Checksum(control[:checksum], castagnoli))
	for _, path := range segments {
		if err := withSystemID(path, os.O_RDWR, func(f *os.File, _ []byte) error {
			_, err := f.WriteAt(control[:8], walSystemID)
			return err
		}); err != nil {
			return err
		}
	}
	return writeInPlace(filepath.Join(dataDir, controlFile), control)
}

// writeInPlace keeps the file's owner and mode.
func writeInPlace(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Close())
}

func walSegments(dataDir string) ([]string, error) {
	dir := filepath.Join(dataDir, "pg_wal")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, entry := range entries {
		if segmentName.MatchString(entry.Name()) {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	return paths, nil
}

// withSystemID calls use with the identifier in a segment, if the segment has
// ever been written: one made in advance is all zero.
func withSystemID(path string, mode int, use func(f *os.File, found []byte) error) error {
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	header := make([]byte, walLongHeader)
	if _, err := io.ReadFull(f, header); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if bytes.Equal(header, make([]byte, walLongHeader)) {
		return nil
	}
	return use(f, header[walSystemID:walSystemID+8])
}
