package sink

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
)

// pending is a range whose rows may be in the table or not. It is what step 2
// announces in the metadata of a commit:
//
//	pending=1042;n=0;before=1767225720
type pending struct {
	last   kafka.LastOffset // the range ends here; it begins at the committed offset
	n      int              // how often what was missing was announced anew
	before time.Time        // ClickHouse takes no row of it from then on; whole seconds
}

func (p pending) String() string {
	return fmt.Sprintf("pending=%d;n=%d;before=%d", p.last, p.n, p.before.Unix())
}

// token names the block for ClickHouse's deduplication.
func (p pending) token(part kafka.Partition, first kafka.LastOffset) string {
	return fmt.Sprintf("%s/%d-%d/%d", part, first, p.last, p.n)
}

var errMetadata = errors.New("the commit's metadata is not of the form pending=N;n=N;before=SECONDS: another program commits under this group's name")

// parsePending reads a commit's metadata; ok is false where nothing is pending.
func parsePending(metadata string) (p pending, ok bool, err error) {
	if metadata == "" {
		return p, false, nil
	}
	parts := strings.Split(metadata, ";")
	if len(parts) != 3 {
		return p, false, errMetadata
	}
	var numbers [3]int64
	for i, key := range []string{"pending=", "n=", "before="} {
		text, found := strings.CutPrefix(parts[i], key)
		n, err := strconv.ParseInt(text, 10, 64)
		if !found || err != nil || n < 0 {
			return p, false, errMetadata
		}
		numbers[i] = n
	}
	return pending{last: kafka.LastOffset(numbers[0]), n: int(numbers[1]), before: time.Unix(numbers[2], 0)}, true, nil
}
