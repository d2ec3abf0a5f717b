package stamp

// request is one that the driver has sent, or one of ours, whose ReadyForQuery
// is still to come.
type request struct {
	ours     bool   // all of it is a question
	inline   inline // how a question was put into it
	executes int    // the driver's own statements in it
	done     int    // statements that have completed
	guard    place
}

// inline is how a question was put into a request of the driver.
type inline uint8

const (
	notInline   inline = iota
	atOnce             // right behind the driver's statement
	afterCommit        // behind a BEGIN and a COMMIT of ours
)

// committed reports whether the driver's statements have had their effect: an
// error that comes later is only about the question.
func (r *request) committed() bool {
	own := r.executes
	if r.inline == afterCommit {
		own += 2
	}
	return r.done >= own
}

// filter takes the answers to stamps out of what the server sends. Where the
// answer is a request of its own, the driver's ReadyForQuery that comes before
// it is held back until it has been read: when the driver's call returns, the
// stamp is there.
type filter struct {
	due  []request // in order
	scan scanner
	body []byte // of the message being read, when it is kept
	out  []byte // for the driver
	held []byte // the driver's ReadyForQuery
	err  error  // to be delivered once, when out is empty
	lsn  string
	ok   bool

	refused bool // by a guard
}

func (f *filter) expect(r request) { f.due = append(f.due, r) }

// last returns the request sent last.
func (f *filter) last() *request { return &f.due[len(f.due)-1] }

// idle reports whether nothing is due and nothing is kept.
func (f *filter) idle() bool {
	return len(f.due) == 0 && len(f.out) == 0 && len(f.held) == 0 && f.err == nil && f.scan.whole()
}

// answer reports whether what is being read answers a question.
func (f *filter) answer() bool {
	if len(f.due) == 0 {
		return false
	}
	r := &f.due[0]
	return r.ours || r.inline != notInline && r.done >= r.executes
}

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
// driver: every ReadyForQuery, and all of an answer but what the server may
// send at any time (NoticeResponse, ParameterStatus, NotificationResponse) and
// an error of the driver's own statements, whose commit comes last.
func (f *filter) keeps() bool {
	switch f.scan.header[0] {
	case 'Z':
		return true
	case 'N', 'S', 'A':
		return false
	case 'E':
		return f.answer() && (f.due[0].ours || f.due[0].committed())
	}
	return f.answer() || f.atGuard()
}

// message acts on the message that has just ended.
func (f *filter) message() {
	body, answer := f.body, f.answer()
	f.body = f.body[:0]
	switch typ := f.scan.header[0]; {
	case typ == 'Z':
		f.ready(body)
	case f.atGuard() && (typ == 'C' || typ == 'E'):
		f.passed(typ == 'E')
	case len(f.due) > 0 && (typ == 'C' || typ == 'I' || typ == 's'):
		// CommandComplete, EmptyQueryResponse, PortalSuspended
		f.due[0].done++
	case !answer:
	case typ == 'D':
		f.lsn, f.ok = dataRow(body)
	case typ == 'E':
		f.lsn, f.ok = "", false
	}
}

// ready acts on a ReadyForQuery.
func (f *filter) ready(body []byte) {
	ended := request{}
	if len(f.due) > 0 {
		ended = f.due[0]
		f.due = f.due[1:]
	}
	if ended.ours {
		f.out = append(f.out, f.held...)
		f.held = f.held[:0]
		return
	}
	z := append(f.scan.header[:headerSize:headerSize], body...)
	if len(f.due) > 0 && f.due[0].ours {
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
