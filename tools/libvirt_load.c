#include "tools/libvirt_load.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int libvirt_load(const struct libvirt_symbol *symbols, size_t n, struct error *err)
{
    void *handle = dlopen("libvirt.so.0", RTLD_NOW | RTLD_GLOBAL);

    if (!handle)
        return error_set(err, -ENOENT, "libvirt.so.0 can't be loaded");
    for (size_t i = 0; i < n; i++) {
        void *symbol = dlsym(handle, symbols[i].name);

        if (!symbol)
            return error_set(err, -ENOSYS, "this libvirt.so.0 has no %s: version 6.1 is needed",
                             symbols[i].name);
        memcpy(symbols[i].where, &symbol, sizeof(symbol));
    }
    return 0;
}
