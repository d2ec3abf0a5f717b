// Package e2e holds whole-system tests: several application servers, browsers
// and a cluster that breaks. It is never published.
package e2e
