/*
 * The lab's link: what the appliance's init and `twofold lab` say to each
 * other over one byte channel (a virtio port in QEMU, COM2 in Bochs). Frames of
 * 8 bytes of header and up to LAB_FRAME_MAX bytes, so that standard output,
 * standard error, files and the exit status share it and stay apart.
 *
 *   offset 0  'T' 'F', offset 2 the type, offset 3 zero, offset 4 the length (LE32)
 *
 * Guest to host: HELLO, then STDOUT and STDERR, then for each file asked for
 * FILE, FILE_DATA..., FILE_END, and STATUS as the last one.
 * Host to guest (not in Bochs): STDIN; an empty one is the end of the input.
 */
#ifndef TWOFOLD_TOOLS_LAB_LINK_H
#define TWOFOLD_TOOLS_LAB_LINK_H

#include <stddef.h>
#include <stdint.h>

#define LAB_LINK_VERSION 1
#define LAB_FRAME_MAX    32768u
#define LAB_PORT_NAME    "twofold.lab"

/* What the overlay tells init: NUL-separated arguments, NUL-separated paths. */
#define LAB_COMMAND_FILE "/.twofold/command"
#define LAB_OUT_FILE     "/.twofold/out"

enum lab_frame {
    LAB_HELLO = 1, /* u32 version */
    LAB_STDOUT,
    LAB_STDERR,
    LAB_STDIN,
    LAB_FILE,      /* u32 index in LAB_OUT_FILE, u32 mode */
    LAB_FILE_DATA, /* bytes of it */
    LAB_FILE_END,  /* u32 index, u32 errno: 0 when the file is complete */
    LAB_STATUS,    /* u32 exit status of the command */
    LAB_FRAME_TYPES
};

struct lab_parser {
    size_t have; /* bytes of the frame at hand, header included */
    unsigned char frame[8 + LAB_FRAME_MAX];
};

/* A whole frame. A return value below 0 stops lab_parser_feed() and is handed on. */
typedef int (*lab_frame_fn)(void *ctx, enum lab_frame type, const unsigned char *payload,
                            size_t len);

void lab_parser_init(struct lab_parser *parser);

/*
 * Takes bytes as they came, calls `fn` for each frame that they complete.
 * 0, -EPROTO for bytes that are no frame, or what `fn` returned.
 */
int lab_parser_feed(struct lab_parser *parser, const unsigned char *bytes, size_t len,
                    lab_frame_fn fn, void *ctx);

/* Writes the 8 bytes of a header. `len` is at most LAB_FRAME_MAX. */
void lab_frame_header(unsigned char header[8], enum lab_frame type, size_t len);

/* Writes a frame to a blocking descriptor. 0 or -errno. */
int lab_send(int fd, enum lab_frame type, const void *payload, size_t len);

/* Little-endian numbers of a payload. */
uint32_t lab_get32(const unsigned char *bytes);
void lab_put32(unsigned char *bytes, uint32_t value);

/* Writes all of it to a blocking descriptor. 0 or -errno. */
int lab_write_all(int fd, const void *bytes, size_t len);

#endif
