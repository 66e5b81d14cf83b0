/* Lets xl read a configuration (xl -N create FILE) on a machine without Xen, by LD_PRELOAD.
 *
 * Before xl reads the file it opens the hypervisor's device and xenstore, and asks the hypervisor what it can do. Here
 * both are there, and it can do everything. Nothing else of Xen works then, so this is for -N only.
 *
 * The prototypes are those of libxenctrl (xenctrl.h) and libxenstore (xenstore.h) of Xen 4.17, written without their
 * headers and without the C library's: all that is needed to compile this is a compiler.
 */

static int handle;

void *xc_interface_open(void *logger, void *logger_of_death, unsigned flags)
{
    (void)logger; (void)logger_of_death; (void)flags;
    return &handle;
}

int xc_interface_close(void *interface) { (void)interface; return 0; }

void *xs_open(unsigned long flags) { (void)flags; return &handle; }

void xs_close(void *store) { (void)store; }

int xc_version(void *interface, int command, void *answer)
{
    (void)interface; (void)command; (void)answer;
    return -1; /* libxl goes on without knowing the version */
}

/* struct xen_sysctl_physinfo begins so (xen/include/public/sysctl.h); the caller has set the rest to zero. */
struct physinfo {
    unsigned threads_per_core, cores_per_socket, nr_cpus, max_cpu_id, nr_nodes, max_node_id, cpu_khz, capabilities;
};

enum { PHYSCAP_HVM = 1 << 0, PHYSCAP_PV = 1 << 1, PHYSCAP_DIRECTIO = 1 << 2, PHYSCAP_HAP = 1 << 3, CPUS = 64 };

int xc_physinfo(void *interface, struct physinfo *answer)
{
    (void)interface;
    answer->threads_per_core = 1;
    answer->cores_per_socket = CPUS;
    answer->nr_cpus = CPUS;
    answer->max_cpu_id = CPUS - 1;
    answer->nr_nodes = 1;
    answer->max_node_id = 0;
    answer->capabilities = PHYSCAP_HVM | PHYSCAP_PV | PHYSCAP_DIRECTIO | PHYSCAP_HAP;
    return 0;
}

int xc_get_max_cpus(void *interface) { (void)interface; return CPUS; }

int xc_get_max_nodes(void *interface) { (void)interface; return 1; }

long xc_sharing_freed_pages(void *interface) { (void)interface; return 0; }

long xc_sharing_used_frames(void *interface) { (void)interface; return 0; }
