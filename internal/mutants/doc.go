// Command mutants shows that the tests would notice if a mechanism were not there.
//
// Each file in patches/ switches one mechanism off. It begins with what it is about,
// and goes on with a unified diff of code that is not a test:
//
//	Mechanism: the transactional id of a stripe fences its former owner
//	Test: ./processor -run ^TestProcessor_AnOwnerThatWasFencedWritesNothing$
//
// The command copies the tree, sees the tests pass, applies one patch at a time, and
// runs its test: it must fail now, and not for want of compiling. A patch that fits no longer without
// guessing, or a test that passes all the same, is an error: either the mechanism
// has moved, or nothing shows it any more. The exit code is 1 then, and the last
// lines name every one of them.
//
//	go run ./internal/mutants              all of them
//	go run ./internal/mutants fencing      those whose name holds one of the words
//	go run ./internal/mutants -list        what there is, without running it
//
// Two run at a time, each in a copy of its own. What a copy compiles serves the other
// one too, and the next run: packages are built without their paths in them.
package main
