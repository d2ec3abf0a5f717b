package pgtideriver

import (
	"encoding/json"

	"github.com/riverqueue/river/rivertype"

	"github.com/pgtide/pgtide"
)

// MetadataKey is the key in a job's metadata that the middleware uses.
const MetadataKey = "pgtide"

// carried is what a job's metadata holds under MetadataKey.
type carried struct {
	// Token is all that the job must see until it has run for the first time. The
	// zero Token is not known: it must see what is committed by then.
	Token   pgtide.Token `json:"token,omitzero"`
	Snoozes int64        `json:"snoozes,omitempty"` // by this package
}

// snoozesKey is where River counts how often a job was snoozed, by whomever.
const snoozesKey = "snoozes"

// read returns what job's metadata holds for a worker of a cluster.
func read(job *rivertype.JobRow, cluster uint64) (c carried) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(job.Metadata, &fields) != nil || fields[MetadataKey] == nil {
		return carried{}
	}
	if json.Unmarshal(fields[MetadataKey], &c) != nil {
		return carried{}
	}
	// A worker must see what an attempt before has written. One that was snoozed
	// by its worker was not counted.
	var snoozes int64
	if fields[snoozesKey] != nil && json.Unmarshal(fields[snoozesKey], &snoozes) != nil {
		snoozes = -1
	}
	if job.Attempt > 1 || snoozes != c.Snoozes || c.Token.SystemID() != cluster {
		c.Token = pgtide.Token{}
	}
	return c
}

// write returns metadata with c. What is no JSON object stays: River refuses it
// with an error of its own.
func write(metadata []byte, c carried) []byte {
	fields := map[string]json.RawMessage{}
	if len(metadata) > 0 && json.Unmarshal(metadata, &fields) != nil || fields == nil {
		return metadata
	}
	value, err := json.Marshal(c)
	if err != nil {
		return metadata
	}
	fields[MetadataKey] = value
	with, err := json.Marshal(fields)
	if err != nil {
		return metadata
	}
	return with
}
