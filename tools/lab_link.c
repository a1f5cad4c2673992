#include "tools/lab_link.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define HEADER 8u

uint32_t lab_get32(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

void lab_put32(unsigned char *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
}

void lab_frame_header(unsigned char header[8], enum lab_frame type, size_t len)
{
    header[0] = 'T';
    header[1] = 'F';
    header[2] = (unsigned char)type;
    header[3] = 0;
    lab_put32(header + 4, (uint32_t)len);
}

void lab_parser_init(struct lab_parser *parser)
{
    parser->have = 0;
}

/* The length that the header at hand announces, or -EPROTO. */
static int payload_length(const unsigned char *header, size_t *len)
{
    uint32_t n = lab_get32(header + 4);

    if (header[0] != 'T' || header[1] != 'F' || header[3] != 0)
        return -EPROTO;
    if (header[2] == 0 || header[2] >= LAB_FRAME_TYPES || n > LAB_FRAME_MAX)
        return -EPROTO;
    *len = n;
    return 0;
}

int lab_parser_feed(struct lab_parser *parser, const unsigned char *bytes, size_t len,
                    lab_frame_fn fn, void *ctx)
{
    while (len) {
        size_t want = HEADER;
        size_t payload = 0;
        int rc = 0;

        if (parser->have >= HEADER) {
            rc = payload_length(parser->frame, &payload);
            if (rc < 0)
                return rc;
            want += payload;
        }
        size_t n = want - parser->have < len ? want - parser->have : len;

        memcpy(parser->frame + parser->have, bytes, n);
        parser->have += n;
        bytes += n;
        len -= n;
        if (parser->have < HEADER)
            break;
        rc = payload_length(parser->frame, &payload);
        if (rc < 0)
            return rc;
        if (parser->have < HEADER + payload)
            continue;
        parser->have = 0;
        rc = fn(ctx, (enum lab_frame)parser->frame[2], parser->frame + HEADER, payload);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int lab_write_all(int fd, const void *bytes, size_t len)
{
    const unsigned char *p = bytes;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int lab_send(int fd, enum lab_frame type, const void *payload, size_t len)
{
    unsigned char frame[HEADER + LAB_FRAME_MAX];

    if (len > LAB_FRAME_MAX)
        return -EMSGSIZE;
    lab_frame_header(frame, type, len);
    if (len)
        memcpy(frame + HEADER, payload, len);
    return lab_write_all(fd, frame, HEADER + len);
}
