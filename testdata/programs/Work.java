import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

/** Threads, native memory of buffers and of zlib, and enough garbage for several collections. Prints sums. */
public class Work {
    private static final int THREADS = 8;

    public static void main(String[] args) throws Exception {
        long[] sums = new long[THREADS];
        List<Thread> threads = new ArrayList<>();
        for (int number = 0; number < THREADS; number++) {
            int own = number;
            threads.add(new Thread(() -> sums[own] = work(own)));
        }
        for (Thread thread : threads) {
            thread.start();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        for (long sum : sums) {
            System.out.println(sum);
        }
    }

    private static long work(int seed) {
        CRC32 sum = new CRC32();
        Map<Integer, byte[]> live = new HashMap<>();
        for (int round = 0; round < 200; round++) {
            ByteBuffer buffer = ByteBuffer.allocateDirect(64 << 10);
            for (int i = 0; i < buffer.capacity() / 4; i++) {
                buffer.putInt(i * (seed + 1) / (round + 1));
            }
            buffer.flip();
            sum.update(buffer);
            live.put(round % 37, pack(buffer.duplicate().rewind()));
        }
        for (byte[] packed : live.values()) {
            sum.update(unpack(packed));
        }
        return sum.getValue();
    }

    private static byte[] pack(ByteBuffer bytes) {
        Deflater deflater = new Deflater(1);
        deflater.setInput(bytes);
        deflater.finish();
        byte[] packed = new byte[128 << 10];
        int length = deflater.deflate(packed);
        deflater.end();
        return java.util.Arrays.copyOf(packed, length);
    }

    private static byte[] unpack(byte[] packed) {
        try {
            Inflater inflater = new Inflater();
            inflater.setInput(packed);
            byte[] bytes = new byte[64 << 10];
            inflater.inflate(bytes);
            inflater.end();
            return bytes;
        } catch (java.util.zip.DataFormatException broken) {
            throw new IllegalStateException(broken);
        }
    }
}
