package stamp

// owner says whose request a ReadyForQuery ends.
type owner bool

const (
	users owner = false
	ours  owner = true
)

// filter takes the answers to stamps out of what the server sends. The
// driver's ReadyForQuery that comes before an answer is held back until the
// answer has been read: when the driver's call returns, the stamp is there.
type filter struct {
	due  []owner // requests whose ReadyForQuery is still to come, in order
	scan scanner
	body []byte // of the message being read, when it is kept
	out  []byte // for the driver
	held []byte // the driver's ReadyForQuery
	err  error  // to be delivered once, when out is empty
	lsn  string
	ok   bool
}

func (f *filter) expect(o owner) { f.due = append(f.due, o) }

// idle reports whether nothing is due and nothing is kept.
func (f *filter) idle() bool {
	return len(f.due) == 0 && len(f.out) == 0 && len(f.held) == 0 && f.err == nil && f.scan.whole()
}

func (f *filter) mine() bool { return len(f.due) > 0 && f.due[0] == ours }

// feed takes in bytes from the server.
func (f *filter) feed(b []byte) {
	for len(b) > 0 {
		inBody := f.scan.left > 0
		n, begins, ends := f.scan.step(b)
		switch {
		case inBody && f.keeps():
			f.body = append(f.body, b[:n]...)
		case inBody:
			f.out = append(f.out, b[:n]...)
		case begins && !f.keeps():
			f.out = append(f.out, f.scan.header[:]...)
		}
		if ends {
			f.message()
		}
		b = b[n:]
	}
}

// keeps reports whether the message being read is not, or not yet, for the
// driver: every ReadyForQuery, and all of an answer to a stamp but what the
// server may send at any time (NoticeResponse, ParameterStatus,
// NotificationResponse).
func (f *filter) keeps() bool {
	switch f.scan.header[0] {
	case 'Z':
		return true
	case 'N', 'S', 'A':
		return false
	}
	return f.mine()
}

// message acts on the message that has just ended.
func (f *filter) message() {
	body := f.body
	f.body = f.body[:0]
	switch typ := f.scan.header[0]; {
	case typ == 'Z':
		f.ready(body)
	case !f.mine():
	case typ == 'D':
		f.lsn, f.ok = dataRow(body)
	case typ == 'E':
		f.lsn, f.ok = "", false
	}
}

// ready acts on a ReadyForQuery.
func (f *filter) ready(body []byte) {
	if f.mine() {
		f.due = f.due[1:]
		f.out = append(f.out, f.held...)
		f.held = f.held[:0]
		return
	}
	if len(f.due) > 0 {
		f.due = f.due[1:]
	}
	z := append(f.scan.header[:headerSize:headerSize], body...)
	if f.mine() {
		f.held = append(f.held[:0], z...)
		return
	}
	f.out = append(f.out, z...)
}

// fail takes in that reading failed. A request whose ReadyForQuery is held has
// ended, whatever became of the connection since: the driver gets to know that
// and not the error, which comes back with the next read if it lasts. A passed
// deadline does not: the driver sets another and goes on.
func (f *filter) fail(err error) {
	f.out = append(f.out, f.held...)
	f.held = f.held[:0]
	if len(f.out) == 0 {
		f.err = err
	}
}

// deliver moves what is ready for the driver to p.
func (f *filter) deliver(p []byte) (int, error) {
	if len(f.out) > 0 {
		n := copy(p, f.out)
		f.out = f.out[n:]
		if len(f.out) == 0 {
			f.out = nil
		}
		return n, nil
	}
	err := f.err
	f.err = nil
	return 0, err
}
