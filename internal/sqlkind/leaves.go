package sqlkind

import "strings"

// Leaves reports whether sql may leave something in its server session that is
// still there after its transaction: a setting, a temporary table, a session's
// advisory lock, a channel it listens to. Whoever shares the session later would
// meet it.
//
// What a function of the user's own leaves does not show in a text. Values of
// sequences and statements that the server was asked to plan do not count.
func Leaves(sql string) bool {
	p := parser{lexer: lexer{src: sql}}
	for {
		p.before, p.last, p.cur = token{}, token{}, token{}
		p.with, p.over = false, false
		if p.advance() && p.leaves() {
			return true
		}
		p.rest()
		switch p.cur.kind {
		case broken:
			return true
		case end:
			return false
		}
	}
}

// leaves is Leaves for the statement that begins at cur.
func (p *parser) leaves() bool {
	switch p.cur.word {
	case "discard", "do", "listen", "load", "reset", "unlisten":
		return true
	case "deallocate", "prepare":
		p.advance()
		named := p.cur.word != "transaction"
		p.advance()
		return named || p.cur.kind != literal // PREPARE transaction AS has a name too
	case "set":
		return p.sets()
	}
	temporary, dropped, updates := false, false, false
	for begun := p.cur.word; ; {
		updates = updates || p.cur.word == "update"
		dropped = dropped || p.cur.word == "drop" && p.last.word == "commit" && p.before.word == "on" && p.depth == 0
		switch {
		case p.temporary():
			// ON COMMIT DROP follows, if at all.
			if temporary = true; begun != "create" {
				return true
			}
		case p.cur.word == "hold" && p.last.word == "with" && begun == "declare":
			return true
		case updates && p.cur.name() && strings.EqualFold(p.cur.text, "pg_settings"):
			return true // a rule of that view makes SET of it
		case p.cur.name() && len(p.cur.text) >= len("pg_temp") && strings.EqualFold(p.cur.text[:len("pg_temp")], "pg_temp"):
			return true
		case p.cur.kind == escaped:
			return true
		case p.marked():
			if !strings.EqualFold(p.last.text, "set_config") || !p.local() {
				return true
			}
		}
		if !p.advance() {
			return temporary && !dropped
		}
	}
}

// temporary reports whether cur makes the object temporary that the words before
// it create: by CREATE or SELECT INTO.
func (p *parser) temporary() bool {
	if p.cur.word != "temp" && p.cur.word != "temporary" {
		return false
	}
	switch p.last.word {
	case "create", "replace", "global", "local":
		return true
	case "into":
		return p.before.word != "insert" && p.before.word != "merge"
	}
	return false
}

// sets reports whether a SET outlives its transaction. cur is its first word.
func (p *parser) sets() bool {
	p.advance()
	switch p.cur.word {
	case "local", "transaction", "constraints":
		p.advance()
		return p.cur.is('.') // the word begins the name of a setting
	}
	return true
}

// marked reports whether cur begins the arguments of a function that marks.
func (p *parser) marked() bool { return p.cur.is('(') && p.last.name() && marks(p.last.text) }

// marks reports whether a call of the function leaves something in the session,
// set_config unless its arguments say otherwise.
func marks(function string) bool {
	var buf [longestName]byte
	name := string(lower(buf[:], function))
	switch name {
	case "set_config", "set_limit", "setseed", "isn_weak", "pg_backup_start", "pg_start_backup":
		return true
	}
	for _, prefix := range []string{"dblink", "pg_replication_origin_session_", "pg_create_", "pg_copy_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	if strings.HasPrefix(name, "pg_advisory_") || strings.HasPrefix(name, "pg_try_advisory_") {
		return !strings.HasPrefix(name, "pg_advisory_unlock") && !strings.Contains(name, "_xact_")
	}
	// What runs SQL given as text may do any of it.
	return runners[name]
}

// local reports whether the last of the arguments that follow is true, which
// bounds set_config to its transaction, and none of them leaves something itself.
func (p *parser) local() bool {
	inside, whole := p.depth, false
	for p.advance() && p.depth >= inside {
		if p.marked() {
			return false
		}
		// The last argument is no more than the word.
		whole = p.last.is(',') || p.last.is('>') && p.before.is('=')
	}
	return whole && p.cur.is(')') && p.last.kind == word && strings.EqualFold(p.last.text, "true")
}
