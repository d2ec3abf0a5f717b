package topology

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a byte position in the write-ahead log. Zero is no position:
// PostgreSQL calls it InvalidXLogRecPtr.
type LSN uint64

// ParseLSN reads the server's own text form, such as 16/B374D848.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok || len(hi) > 8 || len(lo) > 8 {
		return 0, fmt.Errorf("parse LSN %.40q: want two hexadecimal numbers with a slash between", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %.40q: %w", s, err)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %.40q: %w", s, err)
	}
	return LSN(h<<32 | l), nil
}

// String formats l as the server does.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// Sizes of the headers that start each WAL page, from the server's
// access/xlog_internal.h: the first page of a segment has the long one.
const (
	shortPageHeader = 24
	longPageHeader  = 40
)

// Geometry is how a server lays out its write-ahead log.
type Geometry struct {
	Page    uint64 // bytes in a WAL page, 8192 unless the server was built otherwise
	Segment uint64 // bytes in a WAL segment, 16 MiB unless initdb was told otherwise
}

// DefaultGeometry is that of a server built and initialised without options.
var DefaultGeometry = Geometry{Page: 8192, Segment: 16 << 20}

// Normalize returns the position a replica will report once it has replayed
// everything before l.
//
// A record that ends exactly at the end of a page leaves the insert position
// past the next page's header, where nothing has been written yet. No replica
// reports that position before the next record arrives, which on an idle
// server is never; the end of the page is the same place in the log.
func (g Geometry) Normalize(l LSN) LSN {
	if g.Page == 0 || g.Segment == 0 {
		g = DefaultGeometry
	}
	if uint64(l)%g.Segment == longPageHeader {
		return l - longPageHeader
	}
	if uint64(l)%g.Page == shortPageHeader && uint64(l)%g.Segment > g.Page {
		return l - shortPageHeader
	}
	return l
}

// Position is a place in the history of a cluster: an LSN and the timeline it
// was written on. The zero Position is none.
type Position struct {
	Timeline uint32
	LSN      LSN
}

// IsZero reports whether p is no position at all.
func (p Position) IsZero() bool { return p == Position{} }

// String formats p as timeline:LSN.
func (p Position) String() string {
	return strconv.FormatUint(uint64(p.Timeline), 10) + ":" + p.LSN.String()
}

// Compare orders positions by timeline, then LSN. The order is total but
// proves nothing across timelines: see [History.Reaches] for that.
func (p Position) Compare(q Position) int {
	switch {
	case p.Timeline != q.Timeline:
		if p.Timeline < q.Timeline {
			return -1
		}
		return 1
	case p.LSN < q.LSN:
		return -1
	case p.LSN > q.LSN:
		return 1
	}
	return 0
}
