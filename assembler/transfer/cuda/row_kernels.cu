// Kernels that copy rows between device memory and host memory that is mapped into the device.
//
// A table describes the windows (planes and layers) of a copy, see CopyPlan in row_kernel.py:
// HEADER_WORDS numbers, then two addresses of row 0 for each window, read and written. A row outside
// of its window is reported and not moved.
//
// Pair i of a copy is row slots[i * n] / n on each side, n being the slots of a row on that side.
//
// A line is a row of a window, or a segment of a row that is too long. Lines are numbered in the
// order in which they lie in the host pool, so that stores over PCIe fill whole packets.

enum {
    WINDOWS, SRC_STRIDE, DST_STRIDE, SRC_ROWS, DST_ROWS, SRC_SLOTS, DST_SLOTS, ROW_BYTES,
    SEGMENT_BYTES, PIECE_LINES, WINDOWS_INSIDE, REPORT
};

struct Line {
    const unsigned char *src;
    unsigned char *dst;
    int size;  // 0 where nothing is moved
};

// Row and number are one word, so that they cannot be of different threads.
__device__ void report_row(const long long *table, long long row, long long row_num)
{
    row = max(-(1LL << 31), min((1LL << 31) - 1, row));
    *reinterpret_cast<volatile long long *>(table[REPORT]) = (row_num << 32) + (row + (1LL << 31));
}

__device__ long long find_row(const long long *slots, long long pair, long long slots_per_row)
{
    const long long slot = slots[pair * slots_per_row];
    return slot < 0 ? slot : slot / slots_per_row;
}

__device__ Line find_line(const long long *table, const long long *src_slots,
                          const long long *dst_slots, long long pair_num, long long line)
{
    const long long row_bytes = table[ROW_BYTES], segment = table[SEGMENT_BYTES];
    const long long segments = (row_bytes + segment - 1) / segment;
    const long long number = line / segments, offset = (line - number * segments) * segment;
    const bool inside = table[WINDOWS_INSIDE] != 0;
    const long long step = inside ? table[WINDOWS] : pair_num;
    const long long slow = number / step, fast = number - slow * step;
    const long long pair = inside ? slow : fast, window = inside ? fast : slow;
    const long long src_row = find_row(src_slots, pair, table[SRC_SLOTS]);
    const long long dst_row = find_row(dst_slots, pair, table[DST_SLOTS]);
    const bool src_outside = src_row < 0 || src_row >= table[SRC_ROWS];
    if (src_outside || dst_row < 0 || dst_row >= table[DST_ROWS]) {
        report_row(table, src_outside ? src_row : dst_row, table[src_outside ? SRC_ROWS : DST_ROWS]);
        return {nullptr, nullptr, 0};
    }
    const long long *addresses = table + HEADER_WORDS + 2 * window;
    return {
        reinterpret_cast<const unsigned char *>(addresses[0] + src_row * table[SRC_STRIDE] + offset),
        reinterpret_cast<unsigned char *>(addresses[1] + dst_row * table[DST_STRIDE] + offset),
        static_cast<int>(min(segment, row_bytes - offset)),
    };
}

#if __CUDA_ARCH__ >= 900

// Returns the bytes that a thread copies for itself and for the threads after it whose lines follow
// its own; 0 where the line follows that of the thread before.
__device__ int joined_bytes(unsigned long long address, int size, int segment, int lane)
{
    const unsigned long long end = __shfl_up_sync(~0u, address + size, 1);
    const int size_before = __shfl_up_sync(~0u, size, 1);
    const bool is_joined = lane && size && size_before == segment && address == end;
    const unsigned long long joined = __ballot_sync(~0u, is_joined);
    const int following = __ffsll(~(joined >> (lane + 1))) - 1;
    const int last_size = __shfl_sync(~0u, size, lane + following);
    return is_joined || !size ? 0 : following * segment + last_size;
}

__device__ unsigned shared_address(const void *pointer)
{
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Copies through shared memory with bulk copies. One warp goes through consecutive lines, STAGE_NUM
// pieces at a time; all addresses and sizes are multiples of 16. A thread has one line of a piece.
extern "C" __global__ void __launch_bounds__(32)
copy_in_bulk(const long long *table, const long long *src_slots, const long long *dst_slots,
             long long pair_num)
{
    extern __shared__ __align__(128) unsigned char stages[];
    __shared__ __align__(8) unsigned long long arrived[STAGE_NUM];
    __shared__ unsigned long long targets[STAGE_NUM][32];
    __shared__ int sizes[STAGE_NUM][32];
    const int lane = threadIdx.x;
    const long long row_bytes = table[ROW_BYTES];
    const int segment = static_cast<int>(table[SEGMENT_BYTES]);
    const int piece_lines = static_cast<int>(table[PIECE_LINES]);
    const long long lines = pair_num * table[WINDOWS] * ((row_bytes + segment - 1) / segment);
    const long long pieces = (lines + piece_lines - 1) / piece_lines;
    const long long first = pieces * blockIdx.x / gridDim.x;
    const long long count = pieces * (blockIdx.x + 1) / gridDim.x - first;
    if (lane == 0) {
        for (int stage = 0; stage < STAGE_NUM; ++stage)
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&arrived[stage])));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncwarp();

    auto load = [&](long long number) {
        const int stage = static_cast<int>(number % STAGE_NUM);
        const long long line = (first + number) * piece_lines + lane;
        Line mine = {nullptr, nullptr, 0};
        if (lane < piece_lines && line < lines)
            mine = find_line(table, src_slots, dst_slots, pair_num, line);
        const unsigned long long src = reinterpret_cast<unsigned long long>(mine.src);
        const unsigned long long dst = reinterpret_cast<unsigned long long>(mine.dst);
        const int load_size = joined_bytes(src, mine.size, segment, lane);
        targets[stage][lane] = dst;
        sizes[stage][lane] = joined_bytes(dst, mine.size, segment, lane);
        const unsigned all = __reduce_add_sync(~0u, static_cast<unsigned>(mine.size));
        const unsigned barrier = shared_address(&arrived[stage]);
        if (lane == 0)
            asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(all) : "memory");
        __syncwarp();
        if (load_size)
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                         ::"r"(shared_address(stages + stage * STAGE_BYTES + lane * segment)), "l"(src), "r"(load_size), "r"(barrier)
                         : "memory");
    };

    const long long ahead = STAGE_NUM - STORES_UNDER_WAY;
    for (long long number = 0; number < min(ahead, count); ++number)
        load(number);
    for (long long number = 0; number < count; ++number) {
        const int stage = static_cast<int>(number % STAGE_NUM);
        const unsigned barrier = shared_address(&arrived[stage]), parity = (number / STAGE_NUM) & 1;
        unsigned is_done;
        do {
            asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                         : "=r"(is_done) : "r"(barrier), "r"(parity) : "memory");
        } while (!is_done);
        const int size = sizes[stage][lane];
        if (size)
            asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;"
                         ::"l"(targets[stage][lane]), "r"(shared_address(stages + stage * STAGE_BYTES + lane * segment)), "r"(size)
                         : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        if (number + ahead < count) {
            // The stage that is filled next was read by the store STORES_UNDER_WAY pieces ago.
            asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(STORES_UNDER_WAY) : "memory");
            __syncwarp();
            load(number + ahead);
        }
    }
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

#endif

// Copies through registers: for GPUs without bulk copies, and for rows that these cannot move.
template <typename Vector>
__device__ void copy_vectors(const long long *table, const long long *src_slots,
                             const long long *dst_slots, long long pair_num)
{
    const long long row_bytes = table[ROW_BYTES], row_vectors = row_bytes / sizeof(Vector);
    const long long total = pair_num * table[WINDOWS] * row_vectors;
    const long long step = static_cast<long long>(blockDim.x) * VECTORS_AT_ONCE;
    for (long long start = blockIdx.x * step; start < total; start += gridDim.x * step) {
        Vector moved[VECTORS_AT_ONCE];
        unsigned char *dst[VECTORS_AT_ONCE];
#pragma unroll
        for (int turn = 0; turn < VECTORS_AT_ONCE; ++turn) {
            const long long vector = start + turn * blockDim.x + threadIdx.x;
            dst[turn] = nullptr;
            if (vector >= total)
                continue;
            const long long number = vector / row_vectors;
            // A segment is a whole row here.
            const Line line = find_line(table, src_slots, dst_slots, pair_num, number);
            const long long offset = (vector - number * row_vectors) * sizeof(Vector);
            if (line.size) {
                dst[turn] = line.dst + offset;
                moved[turn] = *reinterpret_cast<const Vector *>(line.src + offset);
            }
        }
#pragma unroll
        for (int turn = 0; turn < VECTORS_AT_ONCE; ++turn)
            if (dst[turn])
                *reinterpret_cast<Vector *>(dst[turn]) = moved[turn];
    }
}

extern "C" __global__ void __launch_bounds__(1024)
copy_16_bytes(const long long *table, const long long *src_slots, const long long *dst_slots,
              long long pair_num)
{
    copy_vectors<int4>(table, src_slots, dst_slots, pair_num);
}

extern "C" __global__ void __launch_bounds__(1024)
copy_8_bytes(const long long *table, const long long *src_slots, const long long *dst_slots,
             long long pair_num)
{
    copy_vectors<long long>(table, src_slots, dst_slots, pair_num);
}
