package pgtide

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// scheme is an alias of postgres:// for tools that choose a driver by it.
const scheme = "pgtide://"

// prefix begins the names of the parameters in a DSN that are for pgtide.
const prefix = "pgtide_"

// parameters set the fields of Options that a DSN can set, each from its text,
// unless the program has.
var parameters = map[string]func(o *Options, text string) error{
	"pgtide_consistency": func(o *Options, text string) error {
		c, err := ParseConsistency(text)
		return keep(&o.Consistency, c, err)
	},
	"pgtide_max_staleness":  func(o *Options, text string) error { return o.duration(&o.MaxStaleness, text) },
	"pgtide_wait_budget":    func(o *Options, text string) error { return o.duration(&o.WaitBudget, text) },
	"pgtide_failover_wait":  func(o *Options, text string) error { return o.duration(&o.FailoverWait, text) },
	"pgtide_probe_interval": func(o *Options, text string) error { return o.duration(&o.ProbeInterval, text) },
	"pgtide_probe_timeout":  func(o *Options, text string) error { return o.duration(&o.ProbeTimeout, text) },
	"pgtide_spill_wait":     func(o *Options, text string) error { return o.duration(&o.SpillWait, text) },
	"pgtide_slow_start":     func(o *Options, text string) error { return o.duration(&o.SlowStart, text) },
	"pgtide_zone":           func(o *Options, text string) error { return keep(&o.Zone, text, nil) },
	"pgtide_max_lag": func(o *Options, text string) error {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return errors.New("it is not a whole number of bytes")
		}
		return keep(&o.MaxLag, n, nil)
	},
	"pgtide_balancing": func(o *Options, text string) error {
		switch text {
		case "least_loaded":
			return keep(&o.Balancing, LeastLoaded, nil)
		case "round_robin":
			return keep(&o.Balancing, RoundRobin, nil)
		}
		return errors.New("it is neither least_loaded nor round_robin")
	},
	"pgtide_eject_factor": func(o *Options, text string) error {
		f, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || f != 0 && !(f > 1):
			return errors.New("it is not a number above 1, or 0 for never")
		case f == 0:
			f = -1
		}
		return keep(&o.EjectFactor, f, nil)
	},
	"pgtide_keep_share": func(o *Options, text string) error {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || !(f > 0 && f <= 1) {
			return errors.New("it is not a number above 0, to 1")
		}
		return keep(&o.KeepShare, f, nil)
	},
	"pgtide_degraded": func(o *Options, text string) error {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("it is neither true nor false")
		}
		return keep(&o.Degraded, b, nil)
	},
	"pgtide_spill_limit":    func(o *Options, text string) error { return o.number(&o.SpillLimit, text) },
	"pgtide_failover_queue": func(o *Options, text string) error { return o.number(&o.FailoverQueue, text) },
	"pgtide_shadow": func(o *Options, text string) error {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("it is neither true nor false")
		}
		if o.ReadShare == 0 {
			o.Shadow = o.Shadow || b
		}
		return nil
	},
	"pgtide_read_share": func(o *Options, text string) error {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return errors.New("it is not a number from 0 to 1")
		}
		switch {
		case o.Shadow:
		case f == 0:
			o.Shadow = o.ReadShare == 0
		default:
			return keep(&o.ReadShare, f, nil)
		}
		return nil
	},
}

// keep sets what is not set yet.
func keep[T comparable](field *T, value T, err error) error {
	var zero T
	if err == nil && *field == zero {
		*field = value
	}
	return err
}

func (o *Options) duration(field *time.Duration, text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("it is not a duration such as 500ms")
	}
	if d == 0 {
		d = -1 // the caller says none, where a zero field says the default
	}
	return keep(field, d, nil)
}

func (o *Options) number(field *int, text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n == 0 {
		return errors.New("it is not a whole number, other than 0")
	}
	return keep(field, n, nil)
}

// withDSN fills in what o.DSN says beside the nodes.
func (o Options) withDSN() (Options, error) {
	if o.DSN == "" {
		return o, nil
	}
	config, err := parseDSN(o.DSN)
	if err != nil {
		return o, fmt.Errorf("options: DSN: %w", err)
	}
	given := config.ConnConfig.RuntimeParams
	if shadow, _ := strconv.ParseBool(given["pgtide_shadow"]); shadow && given["pgtide_read_share"] != "" {
		return o, errors.New("options: DSN: both pgtide_shadow and pgtide_read_share are set: set one of them")
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		set, ok := parameters[name]
		if !ok {
			return o, fmt.Errorf("options: DSN: there is no parameter %s: they are %s",
				name, strings.Join(slices.Sorted(maps.Keys(parameters)), ", "))
		}
		if err := set(&o, given[name]); err != nil {
			return o, fmt.Errorf("options: DSN: parameter %s: %w", name, err)
		}
	}
	return o, nil
}

// strip takes pgtide's parameters out of config: a server would refuse them. It
// reports one of them, if there was any.
func strip(config *pgxpool.Config) (found string) {
	for name := range config.ConnConfig.RuntimeParams {
		if strings.HasPrefix(name, prefix) {
			found = name
			delete(config.ConnConfig.RuntimeParams, name)
		}
	}
	return found
}
