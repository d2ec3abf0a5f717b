package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxText = 200      // characters, as the table has it
	maxBody = 64 << 10 // bytes: some 300 times what a message needs
	maxPage = 100      // messages
	stdPage = 20       // messages
	maxSkip = 1 << 30  // messages; further back there are none
)

// complaints are the errors of a request by field.
type complaints map[string][]string

// readText returns the text that the request's body holds. If that is not
// right it has answered the request.
func readText(w http.ResponseWriter, r *http.Request) (text string, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		detail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("The body is larger than %d bytes.", maxBody))
		return "", false
	case err != nil:
		detail(w, http.StatusBadRequest, "The body ended early.")
		return "", false
	case !utf8.Valid(body):
		detail(w, http.StatusBadRequest, "JSON parse error: the body is not UTF-8.")
		return "", false
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		detail(w, http.StatusBadRequest, "JSON parse error: "+parseError(err)+".")
		return "", false
	}
	if fields == nil {
		detail(w, http.StatusBadRequest, "JSON parse error: expected an object, not null.")
		return "", false
	}
	text, wrong := checkText(fields["text"])
	if wrong != nil {
		answer(w, http.StatusBadRequest, complaints{"text": wrong})
		return "", false
	}
	return text, true
}

// parseError words err for somebody who has not written Go.
func parseError(err error) string {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return "expected an object, not " + mismatch.Value
	}
	return err.Error()
}

// checkText returns the text in a field, or what is wrong with it.
func checkText(field json.RawMessage) (text string, wrong []string) {
	switch {
	case field == nil:
		return "", []string{"This field is required."}
	case string(field) == "null":
		return "", []string{"This field may not be null."}
	case json.Unmarshal(field, &text) != nil:
		return "", []string{"Not a valid string."}
	case strings.TrimSpace(text) == "":
		return "", []string{"This field may not be blank."}
	}
	if utf8.RuneCountInString(text) > maxText {
		wrong = append(wrong, fmt.Sprintf("Ensure this field has no more than %d characters.", maxText))
	}
	if strings.ContainsRune(text, 0) {
		wrong = append(wrong, "Null characters are not allowed.")
	}
	return text, wrong
}

// page is a part of a list.
type page struct{ limit, offset int }

// readPage returns the page that the request asks for. If that is not right it
// has answered the request.
func readPage(w http.ResponseWriter, r *http.Request) (p page, ok bool) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		detail(w, http.StatusBadRequest, "The query is malformed.")
		return page{}, false
	}
	wrong := complaints{}
	number := func(name string, standard, least, most int) int {
		if !query.Has(name) {
			return standard
		}
		n, err := strconv.Atoi(query.Get(name))
		switch {
		case err != nil:
			wrong[name] = []string{"A valid integer is required."}
		case n < least:
			wrong[name] = []string{fmt.Sprintf("Ensure this value is greater than or equal to %d.", least)}
		case n > most:
			wrong[name] = []string{fmt.Sprintf("Ensure this value is less than or equal to %d.", most)}
		}
		return n
	}
	p = page{limit: number("limit", stdPage, 1, maxPage), offset: number("offset", 0, 0, maxSkip)}
	if len(wrong) > 0 {
		answer(w, http.StatusBadRequest, wrong)
		return page{}, false
	}
	return p, true
}

// next is the query of the page behind p.
func (p page) next() string {
	return url.Values{"limit": {strconv.Itoa(p.limit)}, "offset": {strconv.Itoa(p.offset + p.limit)}}.Encode()
}
