package pgtide

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"sync"
	"time"
)

// MinKeySize is the least number of bytes in a signing key.
const MinKeySize = 16

// Keys sign tokens that leave the application, so that nobody outside can make
// one up and drive every read to the primary. Keys are safe for concurrent use.
// Keys not made by [NewKeys] sign nothing and accept nothing.
type Keys struct{ keys []*signer }

// NewKeys returns Keys that sign with the first key and accept all of them.
// To rotate, put the new key in front and drop the old one when its tokens have
// expired. Each key needs at least [MinKeySize] random bytes.
func NewKeys(keys ...[]byte) (*Keys, error) {
	if len(keys) == 0 {
		return nil, errors.New("token keys: none given: pass at least one of 32 random bytes")
	}
	k := &Keys{}
	for i, key := range keys {
		if len(key) < MinKeySize {
			return nil, fmt.Errorf("token key %d has %d bytes: at least %d random bytes are needed", i+1, len(key), MinKeySize)
		}
		k.keys = append(k.keys, &signer{key: append([]byte(nil), key...)})
	}
	return k, nil
}

const (
	issuedSize = 4 // seconds since 1970, unsigned: good until 2106
	macSize    = 16
	signedMax  = tokenMaxSize + issuedSize + macSize
	// signedTextMax is the length of signedMax bytes as text.
	signedTextMax = (signedMax*8 + 5) / 6
)

var strictText = base64.RawURLEncoding.Strict()

// Sign returns t as URL-safe text of at most 83 characters, issued at now.
// The zero Token is the empty text.
func (k *Keys) Sign(t Token, now time.Time) string {
	if t.IsZero() || len(k.keys) == 0 {
		return ""
	}
	s := k.keys[0].scratch()
	defer k.keys[0].done(s)
	b := t.appendBinary(s.body[:0])
	b = binary.BigEndian.AppendUint32(b, uint32(now.Unix()))
	b = append(b, s.mac(b)...)
	return string(base64.RawURLEncoding.AppendEncode(s.text[:0], b))
}

// Verify reads what [Keys.Sign] wrote at most maxAge before now; a maxAge of
// zero sets no limit. The error wraps [ErrBadToken] and is safe to log: it
// holds nothing of text. Empty text is the zero Token.
func (k *Keys) Verify(text string, now time.Time, maxAge time.Duration) (Token, error) {
	if text == "" {
		return Token{}, nil
	}
	if len(text) > signedTextMax {
		return Token{}, fmt.Errorf("%w: %d characters are too many", ErrBadToken, len(text))
	}
	if len(k.keys) == 0 {
		return Token{}, errForged
	}
	s := k.keys[0].scratch()
	defer k.keys[0].done(s)
	n, err := strictText.Decode(s.body[:], append(s.text[:0], text...))
	if err != nil || n < tokenSize+issuedSize+macSize {
		return Token{}, fmt.Errorf("%w: not a signed token", ErrBadToken)
	}
	body, sum := s.body[:n-macSize], s.body[n-macSize:n]
	if !k.signed(body, sum) {
		return Token{}, errForged
	}
	payload, issued := body[:len(body)-issuedSize], binary.BigEndian.Uint32(body[len(body)-issuedSize:])
	// The time of issue has no fractions: neither has the age.
	if age := time.Duration(now.Unix()-int64(issued)) * time.Second; maxAge > 0 && age > maxAge {
		return Token{}, fmt.Errorf("%w: issued %v ago, the limit is %v", ErrBadToken, age, maxAge)
	}
	return parseToken(payload)
}

var errForged = fmt.Errorf("%w: the signature does not match", ErrBadToken)

func (k *Keys) signed(body, sum []byte) bool {
	for _, key := range k.keys {
		s := key.scratch()
		ok := hmac.Equal(s.mac(body), sum)
		key.done(s)
		if ok {
			return true
		}
	}
	return false
}

// signer makes the signatures of one key. The hash under it costs more to make
// than to use, so those that are done with are kept.
type signer struct {
	key  []byte
	free sync.Pool // of *scratch
}

// scratch is what signing and verifying need for a moment.
type scratch struct {
	hash hash.Hash
	sum  [sha256.Size]byte
	text [signedTextMax]byte
	body [signedMax]byte
}

func (s *signer) scratch() *scratch {
	if free, ok := s.free.Get().(*scratch); ok {
		return free
	}
	return &scratch{hash: hmac.New(sha256.New, s.key)}
}

func (s *signer) done(b *scratch) { s.free.Put(b) }

var macPrefix = []byte("pgtide token\x00")

// mac is good until s is done with.
func (s *scratch) mac(body []byte) []byte {
	s.hash.Reset()
	s.hash.Write(macPrefix)
	s.hash.Write(body)
	return s.hash.Sum(s.sum[:0])[:macSize]
}
