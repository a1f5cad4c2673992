/*
 * Memory and string functions of the kernel. Those that touch many bytes use
 * REP instructions: one instruction to interpret, though an iteration still
 * costs about a microsecond where ring 0 is interpreted.
 */
#ifndef GUEST_KERNEL_STRING_H
#define GUEST_KERNEL_STRING_H

#include <stddef.h>

void *memcpy(void *dst, const void *src, size_t n);
void *memmove(void *dst, const void *src, size_t n);
void *memset(void *dst, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);

#endif
