/*
 * Kernel files for the tests of the loader, made in memory field by field, so that
 * each field can be wrong on its own.
 */
#ifndef TWOFOLD_TESTS_UNIT_IMAGE_H
#define TWOFOLD_TESTS_UNIT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_SEGMENTS 4

struct image_segment {
    uint64_t paddr, vaddr, filesz, memsz;
    uint64_t offset; /* 0: where the builder puts it */
    char fill;       /* the byte that it is full of */
};

/* Zeros mean what a good file has. */
struct image_spec {
    bool is_64bit;
    bool big_endian;
    uint16_t machine, type;
    uint64_t entry; /* e_entry */
    struct image_segment segment[IMAGE_SEGMENTS];
    size_t segments;
    unsigned note_bytes; /* of a PVH note's entry; 0: no note */
    unsigned note_align; /* p_align of its segment; 0: 4 */
    uint64_t note_entry;
    const char *note_name; /* NULL: "Xen" */
    bool multiboot;        /* a header at the start of the first segment */
    uint32_t multiboot_flags;
    uint32_t multiboot_checksum_error;
    uint32_t address[5]; /* header, load, load end, bss end, entry; with flag 16 */
};

struct image {
    uint8_t bytes[65536];
    size_t size;
};

/* Makes an ELF file. */
void image_elf(struct image *img, const struct image_spec *spec);

/* Makes a file without ELF header: `pad` bytes, a multiboot header, `tail` bytes of 'T'. */
void image_flat(struct image *img, const struct image_spec *spec, size_t pad, size_t tail);

#endif
