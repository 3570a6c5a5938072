// Package module keeps the catalog of a node: which .wasm file of the actors directory serves which kind.
//
// The directory is read flat: files named *.wasm, neither directories below it nor names that begin with '.', '#' or
// '~', which editors and copy tools use for what is not finished. A symbolic link counts when it leads to a regular
// file. Each file is loaded by the [Loader] once per content, never on a request's path, and its kinds become part of
// an immutable view that [Catalog.Kind] reads through one atomic pointer.
//
// # Which file serves a kind
//
// A file serves all of its kinds or none. When two files define the same kind, the one that serves it already keeps it;
// between files that are both new, as at the first load, the first by name does. The other file is refused as a whole
// with a [*ClashError] that names both, and it is loaded without being asked again once the clash is gone.
//
// # Following changes
//
// With Config.Watch one goroutine follows the directory. Events of the file system are advice: they say when to look,
// and a look decides by content. So an event that was lost, an overflow, a directory that was deleted and made again, a
// file system without events and a link whose target changed are all the same case, found by the next look. A file is
// looked at once it has been quiet for Config.Debounce; the same bytes again change nothing. A file that cannot be
// loaded (half copied, broken, unreadable, too large) leaves the version before it in service: the failure is logged
// once and stands in [Catalog.Files] until the file is good again. A file that is gone takes its kinds with it. A
// directory that is there but cannot be read takes nothing.
//
// A load takes seconds, and which kinds a file has is known after it. So [Catalog.Loading] tells which files are on their way, from the
// moment they are noticed: whoever does not find a kind meanwhile may wait and look again. What serves goes on serving until its successor
// is ready.
//
// # Promises
//
// Kind, Kinds, Files and Loading never block and may be called from anywhere, before Start and after Close too. A [Program] that
// left the view is closed after the view without it is in place, so whoever still holds a [Kind] of an older view may find
// its program closed, and looks the kind up again. OnChange is called after each new view, one call at a time. A loader
// that fails or panics costs its own file and nothing else. Close ends every goroutine and closes every program.
package module
