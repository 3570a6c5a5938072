// Package verdict judges what a cluster under attack did: the histories of its clients, and the turn logs of its nodes.
// It reads and computes, and touches nothing else, so what was recorded once can be judged again.
//
// Of a history it is known who asked what of which actor when, and what was answered, by one clock. [Registers] holds it
// against the promise that an actor lives once at a time: what one epoch answered is what one register would have
// (porcupine, a linearisability checker), and once an epoch has answered, no older one does. A request of which nobody
// knows whether it was carried out stays open to the end.
//
// Of the turn logs it is known which activation took turns when. [Turns] holds them against the same promise directly.
package verdict
