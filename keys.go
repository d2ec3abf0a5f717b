package pgtide

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// MinKeySize is the least number of bytes in a signing key.
const MinKeySize = 16

// Keys sign tokens that leave the application, so that nobody outside can make
// one up and drive every read to the primary. Keys are safe for concurrent use.
// Keys not made by [NewKeys] sign nothing and accept nothing.
type Keys struct{ keys [][]byte }

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
		k.keys = append(k.keys, append([]byte(nil), key...))
	}
	return k, nil
}

const (
	issuedSize = 4 // seconds since 1970, unsigned: good until 2106
	macSize    = 16
	signedMax  = tokenMaxSize + issuedSize + macSize
)

// Sign returns t as URL-safe text of at most 78 characters, issued at now.
// The zero Token is the empty text.
func (k *Keys) Sign(t Token, now time.Time) string {
	if t.IsZero() || len(k.keys) == 0 {
		return ""
	}
	b := t.appendBinary(make([]byte, 0, signedMax))
	b = binary.BigEndian.AppendUint32(b, uint32(now.Unix()))
	b = append(b, mac(k.keys[0], b)...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Verify reads what [Keys.Sign] wrote at most maxAge before now; a maxAge of
// zero sets no limit. The error wraps [ErrBadToken] and is safe to log: it
// holds nothing of text. Empty text is the zero Token.
func (k *Keys) Verify(text string, now time.Time, maxAge time.Duration) (Token, error) {
	if text == "" {
		return Token{}, nil
	}
	if len(text) > base64.RawURLEncoding.EncodedLen(signedMax) {
		return Token{}, fmt.Errorf("%w: %d characters are too many", ErrBadToken, len(text))
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < tokenSize+issuedSize+macSize {
		return Token{}, fmt.Errorf("%w: not a signed token", ErrBadToken)
	}
	body, sum := b[:len(b)-macSize], b[len(b)-macSize:]
	if !k.signed(body, sum) {
		return Token{}, fmt.Errorf("%w: the signature does not match", ErrBadToken)
	}
	payload, issued := body[:len(body)-issuedSize], binary.BigEndian.Uint32(body[len(body)-issuedSize:])
	// The time of issue has no fractions: neither has the age.
	if age := time.Duration(now.Unix()-int64(issued)) * time.Second; maxAge > 0 && age > maxAge {
		return Token{}, fmt.Errorf("%w: issued %v ago, the limit is %v", ErrBadToken, age, maxAge)
	}
	return parseToken(payload)
}

func (k *Keys) signed(body, sum []byte) bool {
	for _, key := range k.keys {
		if hmac.Equal(mac(key, body), sum) {
			return true
		}
	}
	return false
}

func mac(key, body []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("pgtide token\x00"))
	h.Write(body)
	return h.Sum(nil)[:macSize]
}
