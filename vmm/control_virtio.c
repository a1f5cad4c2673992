#include "vmm/control_virtio.h"

#include "vmm/virtio.h"
#include "vmm/virtio_blk.h"
#include "vmm/vm_devices.h"

static void add_number(json_t *object, const char *key, uint64_t value)
{
    (void)json_object_set_new(object, key, control_number(value));
}

static const char *state_name(const struct virtio_state *s)
{
    if (s->status & VIRTIO_STATUS_NEEDS_RESET)
        return "broken";
    if (s->status & VIRTIO_STATUS_FAILED)
        return "given up";
    if (s->status & VIRTIO_STATUS_DRIVER_OK)
        return "running";
    return s->status ? "starting" : "reset";
}

static json_t *queues_json(struct virtio_device *v)
{
    json_t *list = json_array();

    for (unsigned n = 0; n < virtio_ops(v)->queues; n++) {
        const struct virtqueue *q = virtio_queue(v, n);
        json_t *one = json_object();

        add_number(one, "queue", n);
        add_number(one, "size", q->size);
        (void)json_object_set_new(one, "ready", json_boolean(q->ready));
        add_number(one, "requests", q->chains);
        add_number(one, "interrupts", q->interrupts);
        add_number(one, "errors", q->errors);
        (void)json_object_set_new(one, "broken", q->broken ? control_text(q->why) : json_null());
        (void)json_array_append_new(list, one);
    }
    return list;
}

static json_t *disk_json(const struct virtio_blk *b, const char *path)
{
    struct virtio_blk_stat s;
    json_t *out = json_object();

    virtio_blk_stat(b, &s);
    (void)json_object_set_new(out, "path", control_text(path));
    add_number(out, "bytes", s.bytes);
    (void)json_object_set_new(out, "read_only", json_boolean(s.read_only));
    (void)json_object_set_new(out, "engine", json_string(s.async ? "io_uring" : "synchronous"));
    add_number(out, "reads", s.reads);
    add_number(out, "writes", s.writes);
    add_number(out, "flushes", s.flushes);
    add_number(out, "others", s.others);
    add_number(out, "bytes_read", s.bytes_read);
    add_number(out, "bytes_written", s.bytes_written);
    add_number(out, "failed", s.failed);
    add_number(out, "in_flight", s.in_flight);
    return out;
}

static struct virtio_device *device_at(struct vm_devices *d, unsigned devfn)
{
    struct virtio_device *v = NULL;

    for (size_t n = 0; (v = vm_devices_virtio(d, n)) != NULL; n++)
        if (virtio_function(v)->devfn == devfn)
            break;
    return v;
}

json_t *control_virtio_json(struct vm *vm, unsigned devfn)
{
    struct vm_devices *d = vm_pci_devices(vm);
    struct virtio_device *v = device_at(d, devfn);
    const struct virtio_blk *disk;
    struct virtio_state s;
    const char *path;
    json_t *out;

    if (!v)
        return NULL;
    virtio_state(v, &s);
    out = json_object();
    (void)json_object_set_new(out, "state", json_string(state_name(&s)));
    (void)json_object_set_new(out, "status", control_hex(s.status));
    (void)json_object_set_new(out, "offered", control_hex(s.offered));
    (void)json_object_set_new(out, "negotiated", control_hex(s.negotiated));
    add_number(out, "kicks", s.kicks);
    add_number(out, "config_interrupts", s.config_interrupts);
    (void)json_object_set_new(out, "queues", queues_json(v));
    disk = vm_devices_disk(d, v, &path);
    if (disk)
        (void)json_object_set_new(out, "disk", disk_json(disk, path));
    return out;
}
