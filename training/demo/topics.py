"""The things the demo world can be asked about, each with seven facts written by hand.

A topic is a task of everyday life. Its facts answer five aspects of it: `how` (three steps), `time` (how often or
how long), `avoid`, `need` and `why`. The last eight topics are held out: the policy learns them like the others,
but no preference label ever shows one of their facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Aspect = Literal["how", "time", "avoid", "need", "why"]
ASPECTS: tuple[Aspect, ...] = ("how", "time", "avoid", "need", "why")
HELD_OUT_TOPICS = 8


@dataclass(frozen=True)
class Fact:
    """One statement that is right for its topic: a clause without capital or full stop."""

    topic: str
    aspect: Aspect
    clause: str


@dataclass(frozen=True)
class Topic:
    """A thing to ask about. `name` is a phrase that both `task` (a verb phrase) and `noun` contain."""

    name: str
    task: str
    noun: str
    rhythm: Literal["often", "long"]
    facts: tuple[Fact, ...]

    def about(self, aspect: Aspect) -> tuple[Fact, ...]:
        """The facts that answer one aspect: three for `how`, one for each other."""
        return tuple(fact for fact in self.facts if fact.aspect == aspect)


# A block per topic: "name | task | noun | rhythm", three steps, then time, avoid, need and why.
_TABLE = """
houseplant | keep a houseplant healthy | a houseplant | often
water it when the top soil feels dry
keep it close to a bright window
turn the pot a little so it grows straight
every four days in summer
leave the roots standing in water
a pot with a hole and a watering can
too much water rots the roots

soft egg | boil a soft egg | a soft egg | long
lower it into bubbling water with a spoon
cool it under the cold tap
crack the shell at the round end
six minutes from the first bubble
boil it straight from the fridge
a small pan and a kitchen timer
the yolk turns hard in seven minutes

bicycle tyre | fix a flat bicycle tyre | a flat bicycle tyre | long
take the wheel out and lift the rubber off
find the hole with a bowl of water
press a patch on the rough dry tube
twenty minutes with some practice
pinch the tube with a screwdriver
two tyre levers and a patch kit
a hidden thorn will prick the tube again

wine stain | remove a red wine stain | a red wine stain | long
dab the spot with a clean cloth
pour cold sparkling water on it
cover it with salt and let it rest
half an hour under the salt
rub the stain deeper into the cloth
salt and sparkling water
dry wine sticks to the threads

sourdough | bake sourdough bread | sourdough bread | long
feed the starter the night before
fold the wet dough four times
bake it in a hot iron pot with a lid
a whole day with the resting
cut the loaf while it steams
a lively starter and strong flour
the slow yeast needs rest to rise

green tea | brew green tea | green tea | long
let the boiled water cool down first
use one small spoon of leaves for each cup
take the leaves out before it turns dark
two minutes in the pot
pour boiling water over the leaves
loose leaves and a fine strainer
great heat makes the leaves taste bitter

french press | make coffee in a french press | a french press coffee | long
grind the beans as coarse as sand
stir once after the first pour
push the plunger down slowly
four minutes before you press
grind the beans to fine dust
coarse coffee and a kettle
fine powder slips through the metal mesh

kitchen knife | sharpen a kitchen knife | a kitchen knife | often
soak the whetstone before you start
hold the blade at a flat angle
draw both sides over the stone equally
every two months at home
put the blade into the dishwasher
a whetstone and a wet towel
a blunt edge slips off the food

cast iron | look after a cast iron pan | a cast iron pan | often
wipe it out while it is warm
dry it on the stove after washing
rub a thin film of oil on it
after every single meal
soak it in soapy water overnight
a brush and some cooking oil
bare iron rusts when it stays wet

shower drain | unblock a shower drain | a blocked shower drain | often
lift the cover and pull the hair out
pour baking soda and vinegar down
rinse the pipe with a bucket of hot water
at the start of each month
tip bacon fat down the pipe
a hook of wire and baking soda
hair and soap make a tight plug

fridge | clean a smelly fridge | a smelly fridge | often
throw old leftovers away
wash the shelves in warm soapy water
leave a cup of ground coffee inside
at the end of every month
store fish without a lid
a sponge and an open box of soda
spilled milk feeds the smell

window | clean a window without streaks | a window | often
wash off the dust from top to bottom
pull a rubber blade across in one line
polish the corners with old newspaper
four times a year
wash the glass in bright sunshine
a rubber blade and a drop of soap
sun dries the soap into streaks

wool sweater | wash a wool sweater | a wool sweater | often
turn it inside out and use cool water
press the water out in a towel
dry it flat on a rack
after about five days of wearing
hang it on a hook while soaking wet
mild wool soap and a flat rack
hot water makes the fibres shrink

leather shoes | polish leather shoes | leather shoes | often
brush the mud off when it is dry
work a little cream in with circles
shine the toe with a soft brush
every second week in winter
dry them next to a radiator
shoe cream and a horsehair brush
dry leather cracks at the bend

shirt | iron a cotton shirt | a cotton shirt | long
start with the collar and the cuffs
iron it while it is slightly damp
hang it up right away with the top button closed
five minutes for each one
iron over a dirty spot
a steam iron and a padded board
damp fibres give up their creases

button | sew on a button | a button | long
thread the needle and tie a knot
go through each hole three times
wind the thread round the stem
eight minutes by daylight
pull the thread until the cloth puckers
a needle and matching thread
a short stem leaves room for the cloth

squeaky door | silence a squeaky door | a squeaky door | long
lift the pin out of the hinge
rub candle wax along the pin
swing it back and forth to spread the wax
three minutes for every hinge
spray cooking oil on the hinge
a hammer and a piece of candle wax
dry metal scrapes on dry metal

picture | hang a picture straight | a picture | long
mark the height with a pencil
tap around to find solid wall
check the frame with a spirit level
ten minutes with a helper
hammer a nail above a socket
a spirit level and a strong hook
a crooked frame catches every eye

wall | paint a bedroom wall | a bedroom wall | long
tape the edges before you begin
roll the paint in the shape of a w
give it a second coat
one weekend with both coats
paint over loose plaster
a roller and masking tape
one thin coat lets the old colour shine through

light bulb | change a light bulb | a light bulb | long
switch the lamp off at the wall
let the glass get cold
turn the new one clockwise until snug
two minutes and a bit of patience
touch hot glass with bare fingers
a steady ladder and a spare bulb
hot glass burns the skin

campfire | light a campfire | a campfire | long
build a ring of big stones
stack thin twigs like a tent
blow gently at the bottom
a quarter of an hour with dry twigs
light it below low branches
dry twigs and long matches
a flame needs air from below

tent | pitch a tent | a tent | long
choose flat ground away from the river
spread the sheet and push the poles in
stretch the ropes at a slant
half an hour for two people
camp in a low hollow
poles and pegs and a rubber mallet
rain collects in a hollow

rucksack | pack a hiking rucksack | a hiking rucksack | long
put the heavy things near your back
roll the clothes tightly
keep the rain jacket on top
one evening before the trip
tie bottles to the outside
strong bags and a packing list
a swinging weight tires the shoulders

map | read a hiking map | a hiking map | often
turn the north edge to the north
look for two landmarks around you
count the brown height lines
at each crossing of the path
trust your phone battery alone
a paper sheet and a compass
close lines mean steep ground

swimming | learn swimming as an adult | swimming | often
practise floating on your back
breathe out under water
kick from the hip with loose feet
three mornings a week
start in deep water alone
goggles and a shallow pool
full lungs keep the body afloat

running | start running again | running | often
walk and jog in turns at first
keep a pace at which you can chat
stretch the calves afterwards
three times a week with rest days
double the distance at once
cushioned shoes and a light shirt
tendons grow slower than the heart

back pain | ease back pain at a desk | back pain at a desk | often
raise the screen to the height of your eyes
stand up and roll the shoulders
set both feet flat on the floor
once every half hour
slump over a laptop for hours
a good chair and a footrest
stiff muscles pull at the spine

sleep | get better sleep | better sleep | long
go to bed at the same hour
keep the bedroom dark and cool
read a calm book instead of a screen
eight hours for most adults
drink coffee after lunch
thick curtains and a calm book
bright light keeps the brain awake

headache | soothe a mild headache | a mild headache | long
drink a large glass of water
rest in a dim quiet room
lay a cool cloth on the forehead
about an hour of quiet rest
stare at a bright screen
a cool cloth and a dim room
thirst tightens the vessels of the head

bee sting | treat a bee sting | a bee sting | long
scrape the sting out sideways
cool the skin with ice in a towel
watch for trouble with breathing
two days until the swelling fades
squeeze the sting with tweezers
ice and a bank card
squeezing pushes more venom in

puppy | train a young puppy | a young puppy | often
reward it the moment it obeys
use the same short word each time
take it outside after each nap
five minutes twice a day
shout when it makes a puddle
tiny treats and a long leash
young dogs forget after few seconds

cat | help a shy cat settle in | a shy cat | long
give it one quiet room with a box
sit down on the floor and wait
let it sniff your hand first
one or two weeks at its own pace
drag it out from under the bed
a litter tray and a cardboard box
cats trust what they smell daily

goldfish | keep a goldfish happy | a goldfish | often
swap a third of the tank water
feed only what it eats in a minute
let tap water stand before use
every weekend for the tank
keep it in a tiny round bowl
a filter and a wide tank
leftover flakes foul the water

bird feeder | set up a bird feeder | a bird feeder | often
hang it high where no cat can jump
fill it with sunflower seeds
scrub it with hot water
every ten days in the cold season
offer salty crumbs
seeds and a hanging wire
wet seeds go mouldy and sicken birds

compost | start a compost heap | a compost heap | often
layer kitchen peels with dry leaves
turn the layers with a fork
keep it moist like a wrung sponge
every third week with a fork
add cooked meat to it
a shady corner and a garden fork
air wakes the tiny helpers in the soil

tomato | grow tomato plants on a balcony | tomato plants | often
tie the stem to a stick
pinch off the side shoots
water the roots and not the leaves
each evening when it is hot
plant them out before the last frost
a deep bucket and a long stick
wet leaves catch brown rot

rose | prune a rose bush | a rose bush | often
cut just above an outward bud
remove the crossing branches
clear dead wood from the middle
once a year in early spring
cut with a rusty blade
thick gloves and sharp clippers
an open middle dries fast after rain

lawn | mow a lawn well | a lawn | often
set the blade rather high
change the direction each time
rake up the clumps afterwards
once a week from may on
mow when the grass is wet
a rake and a sharp mower
long grass shades its own roots

apple tree | plant an apple tree | an apple tree | long
dig a hole twice as wide as the roots
knock in a stake on the windy side
tread the earth down firmly
an afternoon in late autumn
bury the swollen joint of the trunk
a spade and a wooden stake
autumn soil is still warm for new roots

snails | keep snails off the salad | snails in the salad | often
collect them after sunset
lay a copper band around the bed
water in the morning only
each damp evening
scatter salt between the plants
a torch and a copper band
they crawl out when the night is damp

bookshelf | build a simple bookshelf | a simple bookshelf | long
measure the books before you saw
drill the holes ahead of the screws
fasten it to the wall with brackets
one whole afternoon with a drill
leave it leaning freely
planks and a drill and brackets
a tall rack can tip over

wobbly table | steady a wobbly table | a wobbly table | long
find the short leg with a ruler
glue a felt pad beneath it
tighten the bolts in turn
ten minutes if the floor is level
saw bits off the long legs
felt pads and a spanner
bolts work loose when wood dries

guitar | tune a guitar | a guitar | often
begin with the thickest string
turn the peg upward to the note
compare each string with the next
before every practice
crank a string until it snaps
a clip tuner and fresh strings
strings slacken when the room warms

piano | practise the piano | the piano | often
play each hand alone at first
count the beat aloud
repeat the hard bars slowly
twenty minutes every day
race through the easy parts
a metronome and a firm stool
slow fingers learn no mistakes

language | learn a new language | a new language | often
say the new words aloud
write ten cards each morning
talk with a native friend
half an hour with new words
wait until the grammar is perfect
word cards and a friend to talk with
memory fades without repeats

exam | study for an exam | an exam | long
split the subject into small parts
test yourself without notes
explain it to a friend
three weeks of short lessons
cram all night before
old tests and a calendar
recalling builds firmer memory than reading

speech | give a short speech | a short speech | long
open with a small story
pause after every main point
look at one face at a time
five minutes for three points
read word for word from paper
cue cards and a glass of water
listeners remember only three points

budget | plan a monthly budget | a monthly budget | often
write every expense down
set rent and bills aside first
move savings on payday
one look at the list each sunday
forget the yearly bills
a notebook and your bank statement
small purchases add up unseen

letter | write a formal letter | a formal letter | long
put the date at the upper right
state your wish in one line
sign it by hand at the foot
forty minutes with a draft
use jokes or slang
plain paper and a blue pen
a busy clerk reads the opening only

interview | prepare for a job interview | a job interview | long
look up what the company makes
practise two stories of your work
arrive ten minutes early
two evenings of practice
speak badly of your old boss
a clean jacket and a printed résumé
stories stay longer than claims

password | choose a strong password | a strong password | often
join four random words
use a different one on each site
keep them in a manager
whenever a site reports a leak
reuse your birthday
a password manager and four words
long phrases are slow to guess

backup | make a backup of photos | a backup of photos | often
copy them to two different disks
keep one disk in another house
open a few files to check them
on the first sunday of a month
store both disks in one drawer
two disks and a cable
disks fail without warning

slow laptop | speed up a slow laptop | a slow laptop | often
close programs you do not use
empty the full disk
restart after each update
one restart every week
block the fan with a blanket
a memory stick and a dust brush
dust traps heat and slows the chip

wifi | improve weak wifi at home | weak wifi | often
move the router to the centre
raise it onto a high shelf
switch to a free channel
one router restart every month
hide the router behind metal
a high shelf and a long cable
thick walls swallow the signal

suitcase | pack a small suitcase | a small suitcase | long
fill the shoes with socks
place heavy items over the wheels
fold jackets around soft shirts
half an hour with a list
pack liquids without a bag
clear bags and a luggage scale
heavy tops make it topple

jet lag | get over jet lag | jet lag | long
walk in daylight after landing
eat at the local hours
shift your bedtime before leaving
one day for each hour of shift
nap through the afternoon
a sleep mask and an alarm
daylight resets the inner clock

car battery | jump start a car battery | a flat car battery | long
clip red to plus and black to bare metal
run the donor engine for a while
take the clips off in reverse order
ten minutes with the donor running
let the clips touch each other
jumper cables and a second car
crossed clips short the circuit

windscreen | clear an icy windscreen | an icy windscreen | long
scrape from the middle to the sides
spray a mix of alcohol and water
warm the inside with the fan
six minutes on a frosty morning
pour hot water on the ice
a plastic scraper and gloves
sudden heat cracks cold glass

rice | cook fluffy rice | fluffy rice | long
rinse the grains until clear
use two cups of water to one of grain
let it stand under a lid
fifteen minutes on a low flame
stir it again and again
a sieve and a tight lid
loose starch glues the grains

pancakes | fry thin pancakes | thin pancakes | long
rest the batter in a jug
swirl the pan as you pour
flip when the rim lifts
one minute on each face
beat the batter until stretchy
a flat pan and a ladle
rested flour drinks up the milk

roast chicken | make roast chicken | roast chicken | long
pat the skin dry
rub butter and thyme under the skin
test the thigh for clear juice
eighty minutes in a medium oven
rinse the raw bird in the sink
a roasting tin and a thermometer
dry skin turns crisp

onions | chop onions without tears | onions | long
chill them before cutting
leave the root end on
slice with a very sharp edge
two minutes for a big one
wipe your eyes with your fingers
a chopping board and a sharp edge
crushed cells release a stinging gas

jam | cook strawberry jam | strawberry jam | long
boil the fruit with sugar and lemon
drop some on a cold plate to test it
fill hot jars to the brim
twelve minutes at a rolling boil
fill jars that are wet inside
clean jars and gelling sugar
acid helps the fruit to set

ice cream | make ice cream at home | home made ice cream | long
whip the cream until soft peaks
fold in sweet condensed milk
freeze it in a shallow box
six hours in the freezer
thaw and freeze it twice
thick cream and a shallow box
air keeps the ice from going hard

yoghurt | make fresh yoghurt | fresh yoghurt | long
heat the milk until it steams
stir in a spoon of live culture
keep the jar warm in a blanket
one night in a warm place
shake the jar while it sets
whole milk and a live culture
warm germs thicken the milk

candle | make a beeswax candle | a beeswax candle | long
melt the wax over a water bath
stretch the thread straight down the middle
top up the dip after cooling
two hours until it is firm
melt wax on an open flame
a wick and a mould
a slack thread drowns in wax

kite | fly a kite | a kite | long
stand with your back to the breeze
let the line out bit by bit
pull when the nose drops
a few tries on a breezy day
fly near power lines
a long tail and an open field
moving air lifts the wing

snowman | build a big snowman | a big snowman | long
roll the balls over wet snow
set the smaller ball on the larger
press snow into the gaps
an hour after fresh snowfall
use dry powder snow
a carrot and warm mittens
damp flakes cling together

chess | get better at chess | chess | often
bring knights out early
castle before the tenth move
ask what your rival threatens
one slow game a day
chase pawns with the queen
a board and a book of puzzles
the king is weak in the centre

portrait | sketch a portrait | a portrait sketch | long
draw a light oval first
place the eyes halfway down
shade away from the lamp
fifty minutes with two pauses
start with eyelashes and lips
soft pencils and a kneaded eraser
faces look wrong when proportions slip

scarf | knit a warm scarf | a warm scarf | long
cast on thirty loose stitches
knit every row the same way
weave all loose ends in
ten evenings on the sofa
tug the yarn too tight
thick yarn and two fat needles
tight loops make stiff cloth

bathroom mould | get rid of bathroom mould | bathroom mould | often
scrub the joints with alcohol
open the window after a shower
wipe the tiles dry
five minutes of fresh air daily
paint over black spots
a stiff brush and rubber gloves
spores thrive on damp tiles
"""


def _parse(table: str) -> tuple[Topic, ...]:
    topics = []
    for block in table.strip().split("\n\n"):
        header, *clauses = block.split("\n")
        name, task, noun, rhythm = header.split(" | ")
        aspects: tuple[Aspect, ...] = ("how", "how", "how", "time", "avoid", "need", "why")
        facts = tuple(Fact(name, aspect, clause) for aspect, clause in zip(aspects, clauses, strict=True))
        topics.append(Topic(name, task, noun, "often" if rhythm == "often" else "long", facts))
    return tuple(topics)


TOPICS: tuple[Topic, ...] = _parse(_TABLE)
LABELLED_TOPICS: tuple[Topic, ...] = TOPICS[:-HELD_OUT_TOPICS]
UNLABELLED_TOPICS: tuple[Topic, ...] = TOPICS[-HELD_OUT_TOPICS:]
TOPIC_BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
