/* What the kernels and liblzf take of the C library, which the compiler turns into bulk instructions. */
#ifndef STRING_H
#define STRING_H
#include <stddef.h>
#define memcpy __builtin_memcpy
#define memset __builtin_memset
#endif
