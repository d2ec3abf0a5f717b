package pgtide

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/pgtide/pgtide/internal/topology"
)

// Token is what a session must see at least: a position in the write-ahead log
// of one cluster. It is a value; the zero Token asks for nothing.
//
// Its text form is opaque and not signed: fit for a job queue or a service
// that the application trusts. For a browser, see [Keys].
type Token struct {
	systemID uint64
	// need is the newest position; prior, if any, one on an older timeline that
	// is not known to be part of the newer.
	need, prior topology.Position
	// unplaced says that something was written at a position that is not known.
	// Whoever takes the token must treat it as a write that has just returned.
	unplaced bool
	// last is a hash of the name of the node the session read from last. If run is
	// not zero it is a hash of that node's incarnation: the session was shown
	// something there that no position in the token covers.
	last, run uint32
}

// IsZero reports whether t asks for nothing.
func (t Token) IsZero() bool {
	return t.need.IsZero() && t.prior.IsZero() && !t.unplaced && t.run == 0
}

// SystemID returns the system identifier of the cluster that t belongs to.
func (t Token) SystemID() uint64 { return t.systemID }

// Timeline returns the timeline that t's position is on.
func (t Token) Timeline() uint32 { return t.need.Timeline }

// LSN returns t's position as the server writes it, such as 16/B374D848.
func (t Token) LSN() string { return t.need.LSN.String() }

// Merge returns the least token that asks for all that t and u ask for. Tokens
// of two clusters do not merge: the result is t.
func (t Token) Merge(u Token) Token {
	switch {
	case u.IsZero():
		return t
	case t.IsZero():
		return u
	case t.systemID != u.systemID:
		return t
	}
	// Of what was shown on two nodes nothing but a new position covers both; it
	// covers everything else too.
	t.unplaced = t.unplaced || u.unplaced || t.run != 0 && u.run != 0 && (t.run != u.run || t.last != u.last)
	switch {
	case t.unplaced:
		t.run = 0
		if t.last == 0 || u.need.Compare(t.need) > 0 {
			t.last = u.last
		}
	case u.run != 0:
		t.run, t.last = u.run, u.last
	case t.run == 0 && (t.last == 0 || u.need.Compare(t.need) > 0):
		t.last = u.last
	}
	t.need, t.prior = mergePositions(t.need, t.prior, u.need)
	t.need, t.prior = mergePositions(t.need, t.prior, u.prior)
	return t
}

// Covers reports whether whoever has been given t needs not be given u as well: t
// asks for all that u asks for, and u for nothing but positions that are known.
// What u says was written, or shown to a session, at a position that is not known
// may be later than what t says so of, even when the two are equal.
func (t Token) Covers(u Token) bool {
	switch {
	case u.IsZero():
		return true
	case u.unplaced || u.run != 0 || t.systemID != u.systemID:
		return false
	}
	return t.Merge(u).Equal(t)
}

// mergePositions adds p to a pair. Of positions on more than two timelines the
// newest and the greatest of the older are kept.
func mergePositions(need, prior, p topology.Position) (topology.Position, topology.Position) {
	switch {
	case p.IsZero():
	case p.Timeline == need.Timeline:
		need.LSN = max(need.LSN, p.LSN)
	case p.Timeline > need.Timeline:
		if !need.IsZero() {
			prior = older(prior, need)
		}
		need = p
	default:
		prior = older(prior, p)
	}
	return need, prior
}

func older(a, b topology.Position) topology.Position {
	if a.Compare(b) > 0 {
		return a
	}
	return b
}

// The text form is the base64url of, in this order and big endian: version 1,
// flags, system identifier (8), timeline (4) and LSN (8), hash of the last node
// (4), hash of its run (4) when its flag is set, and timeline (4) and LSN (8) of
// prior when its flag is set.
const (
	tokenVersion  = 1
	tokenSize     = 1 + 1 + 8 + 4 + 8 + 4
	runSize       = 4
	priorSize     = 12
	tokenMaxSize  = tokenSize + runSize + priorSize
	flagUnplaced  = 1 << 0
	flagPrior     = 1 << 1
	flagRun       = 1 << 2
	flagsAllKnown = flagUnplaced | flagPrior | flagRun
)

func (t Token) appendBinary(b []byte) []byte {
	var flags byte
	if t.unplaced {
		flags |= flagUnplaced
	}
	if !t.prior.IsZero() {
		flags |= flagPrior
	}
	if t.run != 0 {
		flags |= flagRun
	}
	b = append(b, tokenVersion, flags)
	b = binary.BigEndian.AppendUint64(b, t.systemID)
	b = appendPosition(b, t.need)
	b = binary.BigEndian.AppendUint32(b, t.last)
	if flags&flagRun != 0 {
		b = binary.BigEndian.AppendUint32(b, t.run)
	}
	if flags&flagPrior != 0 {
		b = appendPosition(b, t.prior)
	}
	return b
}

func appendPosition(b []byte, p topology.Position) []byte {
	b = binary.BigEndian.AppendUint32(b, p.Timeline)
	return binary.BigEndian.AppendUint64(b, uint64(p.LSN))
}

func position(b []byte) topology.Position {
	return topology.Position{
		Timeline: binary.BigEndian.Uint32(b),
		LSN:      topology.LSN(binary.BigEndian.Uint64(b[4:])),
	}
}

func parseToken(b []byte) (Token, error) {
	if len(b) < tokenSize || b[0] != tokenVersion || b[1]&^flagsAllKnown != 0 {
		return Token{}, fmt.Errorf("%w: not a version %d token", ErrBadToken, tokenVersion)
	}
	want := tokenSize
	if b[1]&flagRun != 0 {
		want += runSize
	}
	if b[1]&flagPrior != 0 {
		want += priorSize
	}
	if len(b) != want {
		return Token{}, fmt.Errorf("%w: %d bytes, want %d", ErrBadToken, len(b), want)
	}
	t := Token{
		systemID: binary.BigEndian.Uint64(b[2:]),
		need:     position(b[10:]),
		last:     binary.BigEndian.Uint32(b[22:]),
		unplaced: b[1]&flagUnplaced != 0,
	}
	rest := b[tokenSize:]
	if b[1]&flagRun != 0 {
		t.run, rest = binary.BigEndian.Uint32(rest), rest[runSize:]
	}
	if len(rest) > 0 {
		t.prior = position(rest)
	}
	prior := t.prior.Timeline > 0 && t.prior.Timeline < t.need.Timeline
	switch {
	case t.need.IsZero() != (t.need.Timeline == 0) || prior != (len(rest) > 0):
		return Token{}, fmt.Errorf("%w: impossible positions", ErrBadToken)
	case b[1]&flagRun != 0 && (t.run == 0 || t.last == 0 || t.unplaced):
		return Token{}, fmt.Errorf("%w: impossible run", ErrBadToken)
	}
	return t, nil
}

// MarshalText returns t in its unsigned text form, also used in JSON. The zero
// Token is the empty text.
func (t Token) MarshalText() ([]byte, error) {
	if t.IsZero() {
		return []byte{}, nil
	}
	b := t.appendBinary(make([]byte, 0, tokenMaxSize))
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads what [Token.MarshalText] wrote. The error wraps
// [ErrBadToken].
func (t *Token) UnmarshalText(text []byte) error {
	*t = Token{}
	if len(text) == 0 {
		return nil
	}
	if len(text) > base64.RawURLEncoding.EncodedLen(tokenMaxSize) {
		return fmt.Errorf("%w: %d characters are too many", ErrBadToken, len(text))
	}
	b, err := base64.RawURLEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	*t, err = parseToken(b)
	return err
}

// String is for people: timeline and position.
func (t Token) String() string {
	switch {
	case t.IsZero():
		return "no token"
	case t.unplaced || t.run != 0:
		return t.need.String() + "+"
	}
	return t.need.String()
}

// hashRun is never zero.
func hashRun(incarnation int64) uint32 {
	h := fnv.New32a()
	binary.Write(h, binary.BigEndian, incarnation)
	return max(1, h.Sum32())
}

func hashName(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()
}

// Equal reports whether t and u ask for the same. Which node was read from last
// is a hint and does not count.
func (t Token) Equal(u Token) bool {
	if t.run == 0 {
		t.last = 0
	}
	if u.run == 0 {
		u.last = 0
	}
	return t == u
}
