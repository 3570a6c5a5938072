// Package slot makes the linear memories of guest instances from a template: each starts as the image of an instance
// that has run its start, and has pages of its own only where it wrote. It knows nothing of WebAssembly but the sizes.
//
// A [Pool] belongs to one image. [Pool.Get] gives a [Slot] whose content is the image; the guest writes to it and grows
// it; [Slot.Dirty] tells what has become different; [Slot.Release] makes it the image again and keeps it for the next
// Get, and [Slot.Discard] never does.
//
// # Promises
//
//   - What Get returns is the image, byte for byte. Bytes that one user wrote never reach another: a slot is kept only
//     after all pages that could differ were found and written anew, and any doubt takes its pages away.
//   - What is grown past the image goes with its slot, whatever happens to the slot.
//   - A slot that has no pages yet gets those of its own that most of the latest users wrote first, and no others: they count as private, and
//     their bytes are the image's. See [Slot.Watched].
//   - Everything is bounded by [Options], and by the mappings that the kernel allows a process. What the system refuses
//     is an error of Get, or nil from Grow.
//   - No goroutine, no finalizer. A slot that is neither released nor discarded stays, and [Pool.Close] says so.
//
// The methods of a Pool may be called from any goroutine; a Slot is used by one goroutine at a time, and neither the Slot
// nor a slice of its bytes may be used after Release or Discard: the pages may be another's, or gone.
package slot
