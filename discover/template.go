package discover

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// defaultPort is PostgreSQL's, for answers that name none.
const defaultPort = 5432

// place is where a server listens.
type place struct {
	host string
	port uint16
}

// template is a connection string for servers that differ in place alone.
type template struct {
	dsn    string
	url    bool
	config *pgxpool.Config // of dsn as it stands
}

// parseTemplate checks what can be checked before there is a place to put in.
func parseTemplate(dsn string) (template, error) {
	t := template{dsn: dsn}
	if rest, ok := strings.CutPrefix(dsn, "pgtide://"); ok {
		t.dsn = "postgres://" + rest
	}
	t.url = strings.HasPrefix(t.dsn, "postgres://") || strings.HasPrefix(t.dsn, "postgresql://")
	config, err := parseConfig(t.dsn)
	if err != nil {
		return t, err
	}
	for name := range config.ConnConfig.RuntimeParams {
		if strings.HasPrefix(name, "pgtide_") {
			return t, fmt.Errorf("the DSN sets %s, which is not for one node: set it in pgtide.Options", name)
		}
	}
	t.config = config
	// A backslash at the very end would hide what is put behind it.
	probe := place{"127.0.0.1", 1}
	got, err := parseConfig(t.at(probe))
	if err != nil || got.ConnConfig.Host != probe.host || got.ConnConfig.Port != probe.port {
		return t, errors.New("the DSN ends in the middle of a value: close its quotes and take a \\ from its end")
	}
	return t, nil
}

// parseConfig is pgxpool.ParseConfig with errors that hold nothing of the DSN.
func parseConfig(dsn string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err == nil {
		return config, nil
	}
	// pgx quotes the string between backquotes, and again what it cannot read.
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		text = text[i+len("`: "):]
	}
	if text == err.Error() || strings.Contains(text, "failed to parse") {
		text = "write special characters in a URL as %XX, and put values with spaces in single quotes"
	}
	return nil, fmt.Errorf("the DSN is neither postgres://user:password@host:port/database?option=value "+
		"nor host=... port=... user=... password='...' dbname=...: %s", text)
}

// places are the hosts that the DSN itself names, each once. Sockets are none.
func (t template) places() []place {
	var all []place
	add := func(host string, port uint16) {
		p := place{host, port}
		for _, known := range all {
			if p == known {
				return
			}
		}
		if checkHost(host) == nil {
			all = append(all, p)
		}
	}
	add(t.config.ConnConfig.Host, t.config.ConnConfig.Port)
	for _, f := range t.config.ConnConfig.Fallbacks {
		add(f.Host, f.Port)
	}
	return all
}

// one is the only host that the DSN names.
func (t template) one() (place, error) {
	switch all := t.places(); len(all) {
	case 0:
		return place{}, errors.New("the DSN names no host to look up")
	case 1:
		return all[0], nil
	default:
		return place{}, fmt.Errorf("the DSN names %d hosts: name the one to look up", len(all))
	}
}

// at is the connection string of the server at p. Of a setting that is given
// twice the last one holds, for pgx as for libpq.
func (t template) at(p place) string {
	port := strconv.Itoa(int(p.port))
	if !t.url {
		return t.dsn + " host='" + p.host + "' port=" + port
	}
	return t.dsn + separator(t.dsn) + "host=" + url.QueryEscape(p.host) + "&port=" + port
}

// separator is what stands between a URL and one more parameter.
func separator(dsn string) string {
	_, rest, _ := strings.Cut(dsn, "://")
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		rest = rest[i+1:] // a question mark in a password begins no parameters
	}
	switch {
	case !strings.Contains(rest, "?"):
		return "?"
	case strings.HasSuffix(rest, "?"), strings.HasSuffix(rest, "&"):
		return ""
	}
	return "&"
}

// checkHost keeps what a stranger says is a host from being anything else in a
// connection string: a list, a socket, another setting.
func checkHost(host string) error {
	for _, c := range host {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune(".-_:%", c) {
			return fmt.Errorf("%.100q is not the name or address of a host", host)
		}
	}
	if host == "" || len(host) > 253 {
		return fmt.Errorf("a name of %d bytes is not that of a host", len(host))
	}
	return nil
}
