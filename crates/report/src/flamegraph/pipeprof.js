// Search means the function, under its own name and the one it is known by. A role is searched for
// in capitals, by a click on the legend.
function g_to_func(g) {
    var frame = g.getAttribute("fg:name");
    return frame === null ? g_to_text(g) : frame;
}
window.addEventListener("click", function(e) {
    var key = e.target.closest ? e.target.closest("#legend .key") : null;
    if (!key) return;
    var term = "^" + key.getAttribute("fg:role") + "$|\\n" + key.getAttribute("fg:role") + "$";
    var again = searching && get_params().s === term;
    if (searching) search_prompt();
    if (!again) search(term);
}, false);
