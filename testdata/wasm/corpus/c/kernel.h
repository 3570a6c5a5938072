#ifndef KERNEL_H
#define KERNEL_H
#include <stdint.h>
#define KERNEL(name) __attribute__((export_name("k_" #name))) uint32_t kernel_##name(uint32_t rounds)

/* next is a xorshift generator: the same numbers in every run. */
static inline uint32_t next(uint32_t *s) {
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s;
}
#endif
