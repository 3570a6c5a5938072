//go:build !wasip1

package wasilo

// Serve says which kinds a module serves. Built for anything but wasip1 there is no module: it only checks that the kinds
// fit together, so that a module's package main builds, and its kinds can be tested, natively (see package wasilotest).
func Serve(kinds ...*Definition) { NewInstance(nil, kinds...) }
