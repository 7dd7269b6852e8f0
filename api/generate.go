// Package api holds the shapes of the DRS and MGN services as data and what is generated from them.
//
// Nothing imports it. Its subpackages drs and mgn are written by the generator in internal/gen and
// never edited; rest is the runtime that interprets their tables.
package api

//go:generate go run ./internal/gen -shapes shapes -out .
