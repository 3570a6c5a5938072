// Package cbor is the host's side of CBOR (RFC 8949): the JSON that people and most clients speak becomes the CBOR that
// actors read, and their replies become JSON again. Guests never link it; they have the hand-written codec of package abi.
//
// # From JSON
//
// [FromJSON] lets the method's schema decide where it has one:
//
//   - bytes take a base64url string (RFC 4648, section 5), with padding or without;
//   - float takes any number and is always written as a float of 64 bits, so that guests read one form;
//   - int and uint take every integral number that fits them, however it is spelled: 1.0 and 1e3 do;
//   - a record takes its fields alone: one that is missing and not optional, or unknown, is an error that names it;
//   - null is for what is nullable; for an optional field that is not, it means that the field is absent.
//
// Without a schema (nil, or "any") strings stay text, numbers with an integral value that fits 64 bits, signed or not,
// become integers, all others floats of 64 bits. An integer that is written out and does not fit is refused rather than
// rounded.
//
// Refused as well: duplicate names, invalid UTF-8, lone surrogates, anything after the value, more than [abi.MaxDepth]
// arrays and objects inside one another. An input without any value is an error too: a caller for whom an empty body
// means "no parameters" passes {} in its place. Pairs keep the order that they have in the JSON; counts, lengths and
// integers are written in their shortest form.
//
// # To JSON
//
// [ToJSON] shows integers of any size exactly, bytes as base64url without padding, undefined as null, integral floats
// below 2^63 like integers and others in their shortest form, integer map keys as decimal strings. The tags it knows are
// 0 (a time as text), 1 (a time as a number), 2 and 3 (bignums, up to 1,024 bytes). Everything else that JSON lacks (NaN,
// infinities, other tags and keys, simple values, two keys that read the same) is refused with the path of it. An empty
// input, the payload of a reply without a value, is shown as null.
//
// # Go values
//
// [Marshal] and [Unmarshal] are fxamacker/cbor with options for input that nobody vouches for: definite lengths only,
// no duplicate keys, UTF-8 checked, bounded nesting, no bignums.
//
// Everything here may be used from several goroutines at once. Nothing keeps or changes its input.
package cbor
