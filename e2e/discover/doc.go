// Package discover tests the package of that name against a real DNS server,
// which takes a library that pgtide itself does without.
package discover
