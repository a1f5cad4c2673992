/*
 * Text for people: aligned tables and short forms of numbers.
 */
#ifndef TWOFOLD_TOOLS_TABLE_H
#define TWOFOLD_TOOLS_TABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 12

struct table;

/*
 * A table with a column for each blank-separated word of `heads`; a word that
 * starts with '>' is set flush right. NULL when memory is out; the functions
 * below take that and print nothing.
 */
struct table *table_create(const char *heads);

/* The next cell of the current row; a row is full after the last column. */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Prints heads and rows, each line after `indent`, and frees the table. */
void table_print(struct table *t, const char *indent, FILE *f);

/* "512 MiB", "1.5 GiB", "0". Returns buf. */
char *format_bytes(uint64_t bytes, char *buf, size_t size);

/* "850 us", "12.3 ms", "4.2 s", "3m 20s", "2d 3h". Returns buf. */
char *format_seconds(double seconds, char *buf, size_t size);

#endif
