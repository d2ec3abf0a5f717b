package topology

import (
	"sort"
	"time"
)

// ringSize bounds how far back staleness can be measured. At the default probe
// interval of 200 ms a primary that is written all the time fills it in seven
// minutes; an idle one never does.
const ringSize = 2048

// sample says that the primary had written up to lsn somewhere between first
// and last, and nothing more: an idle primary extends its newest sample.
type sample struct {
	first, last time.Duration
	lsn         LSN
}

// ring holds samples of the primary's position, oldest first.
type ring struct {
	timeline uint32
	samples  []sample
}

// add records that the primary was at p at time at. Samples closer together
// than gap are not worth a place: replacing the newest keeps the answer safe,
// for a replica is then matched with an older one.
func (r *ring) add(at time.Duration, p Position, gap time.Duration) {
	if n := len(r.samples); n > 0 {
		newest := &r.samples[n-1]
		if newest.lsn >= p.LSN {
			newest.last = max(newest.last, at)
			return
		}
		if n > 1 && at-r.samples[n-2].last < gap {
			*newest = sample{at, at, p.LSN}
			return
		}
		if n >= ringSize {
			r.samples = append(r.samples[:0], r.samples[ringSize/2:]...)
		}
	}
	r.samples = append(r.samples, sample{at, at, p.LSN})
}

// follow moves the ring to a new timeline that left the old one at end, after
// since. What the old primary wrote past end is not part of the cluster's
// history, and that it wrote no more after since says nothing: the new primary
// may have been writing by then.
func (r *ring) follow(timeline uint32, end LSN, since time.Duration, known bool) {
	if r.timeline == timeline {
		return
	}
	keep := 0
	if known {
		keep = sort.Search(len(r.samples), func(i int) bool { return r.samples[i].lsn > end })
	}
	if keep > 0 {
		last := &r.samples[keep-1].last
		*last = min(*last, since)
		if keep > 1 {
			// The new primary had the next sample already: it came later than this.
			*last = max(*last, r.samples[keep-2].last)
		}
	}
	r.samples = r.samples[:keep]
	r.timeline = timeline
}

// covered returns the latest time at which the primary had nothing past lsn.
func (r *ring) covered(lsn LSN) (time.Duration, bool) {
	i := sort.Search(len(r.samples), func(i int) bool { return r.samples[i].lsn > lsn })
	if i == 0 {
		return 0, false
	}
	return r.samples[i-1].last, true
}

// newest returns the position of the newest sample, or zero.
func (r *ring) newest() LSN {
	if len(r.samples) == 0 {
		return 0
	}
	return r.samples[len(r.samples)-1].lsn
}

// after returns the oldest sample past lsn.
func (r *ring) after(lsn LSN) (sample, bool) {
	i := sort.Search(len(r.samples), func(i int) bool { return r.samples[i].lsn > lsn })
	if i == len(r.samples) {
		return sample{}, false
	}
	return r.samples[i], true
}
