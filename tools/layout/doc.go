// Package layout holds the house in shape: which package may import which, and why. [Table] is the rule, [Check] applies
// it to the sources, and the test of this package applies it to this module on every `go test ./...`.
//
// Imports point down the table, never up. A new package gets a row; a new dependency gets an entry with its reason; a
// rule that is wrong is changed here, where a reviewer sees it, not worked around.
//
// What is checked:
//
//   - every package of the module has a row;
//   - the direct imports of its files, for every platform and build tag at once: of ours, of others, and of the standard
//     library where a row forbids parts of it;
//   - for rows that are Deep, everything below them too, except what the standard library imports by itself;
//   - dependencies that one package alone may import ([Exclusive]), in test files as well;
//   - for rows that are Pure, no clock and no goroutines;
//   - nobody imports the tools.
//
// Test files may import more: any package of ours but the tools, and the libraries of [TestLibraries].
package layout
