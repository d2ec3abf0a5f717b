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
	// Token is all that the job must see the next time that it is fetched. The zero
	// Token is not known: it must see what is committed by then.
	Token pgtide.Token `json:"token,omitzero"`
	// Fetched is how often the job had been fetched when Token was noted.
	Fetched int   `json:"fetched,omitempty"`
	Snoozes int64 `json:"snoozes,omitempty"` // by this package
}

// read returns what job's metadata holds for a worker of a cluster.
func read(job *rivertype.JobRow, cluster uint64) (c carried) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(job.Metadata, &fields) != nil || fields[MetadataKey] == nil {
		return carried{}
	}
	if json.Unmarshal(fields[MetadataKey], &c) != nil {
		return carried{}
	}
	// A worker must see what one before has written, which River may not count as
	// an attempt: it was snoozed, or interrupted. But it is on River's list, whose
	// length has a limit: a job that is fetched as often has no token.
	if len(job.AttemptedBy) != c.Fetched+1 || c.Token.SystemID() != cluster {
		c.Token = pgtide.Token{}
	}
	return c
}

// write returns metadata with c, in place of what it has of another job, if it was
// copied from there. What is no JSON object stays: River refuses it with an error
// of its own.
func write(metadata []byte, c carried) []byte {
	fields := map[string]json.RawMessage{}
	if len(metadata) > 0 && json.Unmarshal(metadata, &fields) != nil || fields == nil {
		return metadata
	}
	switch {
	case c != carried{}:
		value, err := json.Marshal(c)
		if err != nil {
			return metadata
		}
		fields[MetadataKey] = value
	case fields[MetadataKey] != nil:
		delete(fields, MetadataKey)
	default:
		return metadata
	}
	with, err := json.Marshal(fields)
	if err != nil {
		return metadata
	}
	return with
}
